"""Published multi-task results, as printed: the check of delta-m and mean rank.

Tables of NTKMTL and of the papers that it quotes; STL is the single-task baseline as printed.
"""

from dataclasses import dataclass
from decimal import Decimal

from datasets.published_results import read_printed_tables


@dataclass(frozen=True)
class Table:
    """A table of one benchmark.

    Args:
        higher: Its metrics: whether higher is better.
        percent: Metrics that are printed in percent of the baseline's unit.
        baseline: The single-task values behind delta-m.
        lines: The entries of each method, by its name: metrics, delta-m, mean rank (``-`` where not
            known).
    """

    higher: dict[str, bool]
    percent: frozenset[str]
    baseline: dict[str, float]
    lines: dict[str, list[str]]

    def printed(self, method: str) -> dict[str, tuple[float, float]]:
        """Each metric in the baseline's unit, and half a unit of its last digit."""
        entries = zip(self.higher, self.lines[method], strict=False)
        return {name: _scaled(text, name in self.percent) for name, text in entries}

    def row(self, method: str) -> dict[str, float]:
        """Each metric in the baseline's unit."""
        return {name: value for name, (value, _) in self.printed(method).items()}

    def summary(self, method: str) -> tuple[str, str]:
        """Delta-m and mean rank as printed."""
        delta, rank = self.lines[method][-2:]
        return delta, rank


def half_unit(text: str) -> float:
    """Half a unit of the last printed digit."""
    exponent = Decimal(text).as_tuple().exponent
    assert isinstance(exponent, int)
    return 0.5 * 10.0**exponent


def _scaled(text: str, percent: bool) -> tuple[float, float]:
    unit = 100 if percent else 1
    return float(text) / unit, half_unit(text) / unit


_DENSE = {
    "segmentation_miou": True,
    "segmentation_pixel_accuracy": True,
    "depth_absolute_error": False,
    "depth_relative_error": False,
}
_NORMALS = {
    "normals_mean_angle": False,
    "normals_median_angle": False,
    "normals_within_11": True,
    "normals_within_22": True,
    "normals_within_30": True,
}

NYUV2 = Table(
    {**_DENSE, **_NORMALS},
    frozenset(name for name, up in {**_DENSE, **_NORMALS}.items() if up),
    dict(
        zip(
            {**_DENSE, **_NORMALS},
            (0.3830, 0.6376, 0.6754, 0.2780, 25.01, 19.21, 0.3014, 0.5720, 0.6915),
            strict=True,
        )
    ),
    read_printed_tables("nyuv2")[0],
)

CITYSCAPES = Table(
    _DENSE,
    frozenset(name for name, up in _DENSE.items() if up),
    dict(zip(_DENSE, (0.7401, 0.9316, 0.0125, 27.77), strict=True)),
    read_printed_tables("cityscapes")[0],
)

_QM9 = ("mu", "alpha", "homo", "lumo", "r2", "zpve", "u0", "u", "h", "g", "cv")
QM9 = Table(
    dict.fromkeys(_QM9, False),
    frozenset(),
    dict(
        zip(
            _QM9,
            (
                *(0.0671, 0.1814, 60.576, 53.915, 0.5027, 4.539),
                *(58.838, 64.244, 63.852, 66.223, 0.07212),
            ),
            strict=True,
        )
    ),
    read_printed_tables("qm9")[0],
)

TABLES = {"nyuv2": NYUV2, "cityscapes": CITYSCAPES, "qm9": QM9}

# F1 of FairGrad on the 40 attributes of CelebA, in the files' order, as its authors posted them:
# issue 1 of OptMN-Lab/FairGrad. The paper's delta-m is 0.37.
(_FAIRGRAD,) = [rows["FairGrad"] for rows in read_printed_tables("celeba40") if "FairGrad" in rows]
CELEBA_FAIRGRAD = [float(text) for text in _FAIRGRAD[:-2]]
CELEBA_DELTA_M = _FAIRGRAD[-2]
