"""Published multi-task results, as printed: the check of delta-m and mean rank.

Tables of NTKMTL and of the papers that it quotes; STL is the single-task baseline as printed.
"""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np


@dataclass(frozen=True)
class Table:
    """A table of one benchmark.

    Args:
        higher: Its metrics: whether higher is better.
        percent: Metrics that are printed in percent of the baseline's unit.
        baseline: The single-task values behind delta-m.
        text: A line per method: name, metrics, delta-m, mean rank (``-`` where not known).
    """

    higher: dict[str, bool]
    percent: frozenset[str]
    baseline: dict[str, float]
    text: str

    @property
    def lines(self) -> dict[str, list[str]]:
        """The entries of each method, by its name."""
        lines = [line.split() for line in self.text.strip().splitlines()]
        return {line[0]: line[1:] for line in lines}

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
    """
    LS          39.29 65.33 .5493 .2263 28.15 23.96 22.09 47.50 61.08 5.59 10.78
    SI          38.45 64.27 .5354 .2201 27.60 23.37 22.53 48.57 62.32 4.39 9.56
    RLW         37.17 63.77 .5759 .2410 28.27 24.18 22.26 47.05 60.62 7.78 13.22
    DWA         39.11 65.31 .5510 .2285 27.61 23.18 24.17 50.18 62.39 3.57 9.56
    UW          36.87 63.17 .5446 .2260 27.04 22.61 23.54 49.05 63.65 4.05 9.33
    MGDA        30.47 59.90 .6070 .2555 24.88 19.45 29.18 56.88 69.36 1.38 7.11
    PCGrad      38.06 64.64 .5550 .2325 27.41 22.80 23.86 49.83 63.14 3.97 9.89
    GradDrop    39.39 65.12 .5455 .2279 27.48 22.96 23.38 49.44 62.87 3.58 8.89
    CAGrad      39.79 65.49 .5486 .2250 26.31 21.58 25.61 52.36 65.58 .20 5.78
    IMTL-G      39.35 65.60 .5426 .2256 26.02 21.19 26.20 53.13 66.24 -.76 5.11
    MoCo        40.30 66.07 .5575 .2135 26.67 21.83 25.61 51.78 64.85 .16 5.44
    Nash-MTL    40.13 65.93 .5261 .2171 25.26 20.08 28.40 55.47 68.15 -4.04 3.11
    FAMO        38.88 64.90 .5474 .2194 25.06 19.57 29.21 56.61 68.98 -4.10 4.44
    FairGrad    39.74 66.01 .5377 .2236 24.84 19.60 29.26 56.58 69.16 -4.66 2.67
    Aligned-MTL 40.15 66.05 .5520 .2291 25.37 19.89 28.30 55.29 67.95 -3.12 -
    SDMGrad     40.47 65.90 .5225 .2084 25.07 19.99 28.54 55.74 68.53 -4.84 -
    DB-MTL      41.42 66.45 .5251 .2160 25.03 19.50 28.72 56.17 68.73 -5.36 -
    STCH        41.35 66.07 .4965 .2010 26.55 21.81 24.84 51.39 64.86 -1.35 -
    GO4Align    40.42 65.37 .5492 .2167 24.76 18.94 30.54 57.87 69.84 -6.08 -
    """,
)

CITYSCAPES = Table(
    _DENSE,
    frozenset(name for name, up in _DENSE.items() if up),
    dict(zip(_DENSE, (0.7401, 0.9316, 0.0125, 27.77), strict=True)),
    """
    LS          75.18 93.49 .0155 46.77 22.60 7.50
    SI          70.95 91.73 .0161 33.83 14.11 10.25
    RLW         74.57 93.41 .0158 47.79 24.38 10.25
    DWA         75.24 93.52 .0160 44.37 21.45 7.50
    UW          72.02 92.85 .0140 30.13 5.89 6.75
    MGDA        68.84 91.54 .0309 33.50 44.14 10.75
    PCGrad      75.13 93.48 .0154 42.07 18.29 7.75
    GradDrop    75.27 93.53 .0157 47.54 23.73 7.00
    CAGrad      75.16 93.48 .0141 37.60 11.64 6.50
    IMTL-G      75.33 93.49 .0135 38.41 11.10 4.75
    Nash-MTL    75.41 93.66 .0129 35.02 6.82 2.75
    FAMO        74.54 93.29 .0145 32.59 8.13 7.25
    FairGrad    75.72 93.68 .0134 32.25 5.18 1.50
    Aligned-MTL 75.77 93.69 .0133 32.66 5.27 -
    SDMGrad     74.53 93.52 .0137 34.01 7.74 -
    GO4Align    72.63 93.03 .0164 27.58 8.11 -
    """,
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
    """
    LS          .106 .325 73.57 89.67 5.19 14.06 143.4 144.2 144.6 140.3 .128 177.6 8.27
    SI          .309 .345 149.8 135.7 1.00 4.50 55.3 55.75 55.82 55.27 .112 77.8 5.00
    RLW         .113 .340 76.95 92.76 5.86 15.46 156.3 157.1 157.6 153.0 .137 203.8 9.82
    DWA         .107 .325 74.06 90.61 5.09 13.99 142.3 143.0 143.4 139.3 .125 175.3 8.00
    UW          .386 .425 166.2 155.8 1.06 4.99 66.4 66.78 66.80 66.24 .122 108.0 6.36
    MGDA        .217 .368 126.8 104.6 3.22 5.69 88.37 89.4 89.32 88.01 .120 120.5 7.91
    PCGrad      .106 .293 75.85 88.33 3.94 9.15 116.36 116.8 117.2 114.5 .110 125.7 6.45
    CAGrad      .118 .321 83.51 94.81 3.21 6.93 113.99 114.3 114.5 112.3 .116 112.8 7.36
    IMTL-G      .14 .29 98.3 93.9 1.75 5.70 101.4 102.4 102.0 100.1 .10 77.2 6.27
    Nash-MTL    .102 .248 82.95 81.89 2.42 5.38 74.5 75.02 75.10 74.16 .093 62.0 3.64
    FAMO        .15 .30 94.0 95.2 1.63 4.95 70.82 71.2 71.2 70.3 .10 58.5 4.73
    FairGrad    .117 .253 87.57 84.00 2.15 5.07 70.89 71.17 71.21 70.88 .095 57.9 3.91
    GO4Align    .17 .35 102.4 119.0 1.22 4.94 53.9 54.3 54.3 53.9 .11 52.7 -
    """,
)

TABLES = {"nyuv2": NYUV2, "cityscapes": CITYSCAPES, "qm9": QM9}

# F1 of FairGrad on the 40 attributes of CelebA, in the files' order, as its authors posted them:
# issue 1 of OptMN-Lab/FairGrad. The paper's delta-m is 0.37.
CELEBA_FAIRGRAD = np.array(
    """
    0.673481 0.6715126 0.80895394 0.59129095 0.716146 0.84868795 0.5293899 0.6024346 0.79252076
    0.8232979 0.49155608 0.68601424 0.6678187 0.50076723 0.5353463 0.9543982 0.6991702 0.6246493
    0.87510586 0.85260683 0.9679586 0.91303086 0.53938675 0.44097534 0.9698319 0.30875763 0.5560105
    0.5475425 0.5299987 0.6050991 0.72113657 0.9100189 0.48792267 0.6447788 0.7013081 0.8596742
    0.92936283 0.40353844 0.7261722 0.9126637
    """.split(),  # noqa: SIM905
    dtype=float,
).tolist()
CELEBA_DELTA_M = "0.37"
