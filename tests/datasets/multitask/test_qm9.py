"""QM9: its files, units, splits and errors, against plain code and PyTorch Geometric."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError, ValidationErrors
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.run import Run
from datasets import load_benchmark, prepare
from datasets.multitask.qm9 import QM9, TARGETS, count_held_out
from tests.support import molecule_files
from tests.support.real_data import piece

pytest.importorskip("rdkit", reason="rdkit is not installed (requirements-qm9.txt)")

NUMBERS = molecule_files.COLUMNS[1:]
# The columns of PyTorch Geometric's y that the published code takes, in its order.
PUBLISHED = [0, 1, 2, 3, 5, 6, 12, 13, 14, 15, 11]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENHAND_CACHE", str(tmp_path / "cache"))


def plain(benchmark: QM9, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Return the targets in the order of the table, computed one by one."""
    units = {"homo": 27.2113825435, "lumo": 27.2113825435, "zpve": 27.2113825435}
    units |= dict.fromkeys(("u0_atom", "u298_atom", "h298_atom", "g298_atom"), 0.04336414)
    columns = ["mu", "alpha", "homo", "lumo", "r2", "zpve"]
    columns += ["u0_atom", "u298_atom", "h298_atom", "g298_atom", "cv"]
    return {
        task.name: numbers[:, NUMBERS.index(column)] * units.get(column, 1.0)
        for task, column in zip(benchmark.tasks, columns, strict=True)
    }


@pytest.mark.deviation("qm9-units")
def test_targets_units_and_skipped_molecules(tmp_path: Path) -> None:
    skipped = (1, 7, 40)
    numbers = molecule_files.write(tmp_path, 40, skipped=skipped)
    benchmark = QM9(tmp_path)
    splits = benchmark.splits
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 31, "validation": 3, "test": 3,
    }  # fmt: skip
    kept = np.delete(numbers, [number - 1 for number in skipped], axis=0)
    order = np.random.RandomState(0).permutation(len(kept))
    for name, values in plain(benchmark, kept).items():
        mean, deviation = values[order[6:]].mean(), values[order[6:]].std(ddof=1)
        for split, rows in (("test", order[:3]), ("validation", order[3:6]), ("train", order[6:])):
            found = splits[split].targets[name]
            assert found.dtype == torch.float32
            np.testing.assert_allclose(found, (values[rows] - mean) / deviation, rtol=2e-6)


@pytest.mark.deviation("qm9-scale")
def test_errors_are_in_published_units(tmp_path: Path) -> None:
    numbers = molecule_files.write(tmp_path, 60, seed=1)
    benchmark = QM9(tmp_path)
    split = benchmark.splits["test"]
    meter = benchmark.make_meter("test")
    outputs = {name: torch.zeros(len(split)) for name in TARGETS}  # the training mean
    for rows in torch.arange(len(split)).split(4):
        part = {name: target[rows] for name, target in split.targets.items()}
        meter.update(rows, {name: values[rows] for name, values in outputs.items()}, part)
    found = meter.compute_metrics()
    order = np.random.RandomState(0).permutation(60)
    for place, (name, values) in enumerate(plain(benchmark, numbers).items()):
        error = np.abs(values[order[:6]] - values[order[12:]].mean()).mean()
        error *= 1000 if place in (2, 3, 5, 6, 7, 8, 9) else 1
        assert found[f"mae_{name}"] == pytest.approx(error, rel=1e-5)
    assert meter.collect_predictions()["error_homo"].mean().item() == pytest.approx(
        found["mae_homo"]
    )


@pytest.mark.deviation("qm9-split")
def test_published_baseline_and_split_sizes() -> None:
    benchmark = QM9(Path("nowhere"))
    reached = dict(benchmark.baseline.metrics)
    assert benchmark.add_deltas(reached)["delta_m"] == 0
    # FairGrad's published row (Ban & Ji, ICML 2024) and its published delta-m.
    row = [0.117, 0.253, 87.57, 84.00, 2.15, 5.07, 70.89, 71.17, 71.21, 70.88, 0.095]
    judged = benchmark.add_deltas(dict(zip(benchmark.task_metrics, row, strict=True)))
    assert judged["delta_m"] == pytest.approx(57.9, abs=0.3)
    assert [count_held_out(n) for n in (130_831, 30_000, 29_999, 364, 5)] == [
        10_000,
        10_000,
        2999,
        36,
        1,
    ]


def test_same_data_in_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    molecule_files.write(tmp_path, 30)
    first = QM9(tmp_path).data_hash
    monkeypatch.setenv("EVENHAND_CACHE", str(tmp_path / "other"))
    assert QM9(tmp_path).data_hash == first
    molecule_files.write(tmp_path / "others", 30, seed=1)
    assert QM9(tmp_path / "others").data_hash != first


def test_missing_files_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "qm9" / "raw").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        _ = QM9(tmp_path).splits
    assert [name in str(caught.value) for name in ("gdb9.sdf:", "gdb9.sdf.csv:", "uncharac")]
    assert len(QM9(tmp_path).find_problems()) == 3


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / "qm9" / "raw" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "gdb9.sdf",
            "gdb_5\n     test\n\n",
            "gdb_5\n     test\n\nxx",
            r"molecule 5 \('gdb_5', from",
        ),
        ("gdb9.sdf", "gdb_9\n", "gdb_99\n", r"molecule 9 is 'gdb_99'.*'gdb_9' in line 10"),
        ("gdb9.sdf", " C   0", " Si  0", r"molecule \d+ \('gdb_.*atoms Si, expected H, C, N, O, F"),
        ("gdb9.sdf.csv", "u298_atom", "u298", r"csv.*u298_atom"),
        ("gdb9.sdf.csv", "\ngdb_3,", "\ngdb_3,0,0,0,oops,", r"csv"),
        ("uncharacterized.txt", "  4  C1", "  x  C1", r"line 10: received 'x .*20 molecules"),
        ("uncharacterized.txt", "  4  C1", "  21  C1", r"line 10: received '21 "),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    molecule_files.write(tmp_path, 20, skipped=(4,))
    edit(tmp_path, name, old, new)
    with pytest.raises(UserError, match=message):
        _ = QM9(tmp_path).splits
    (told,) = QM9(tmp_path).verify_files()  # what prepare --check says
    assert re.search(message, told)
    cache = tmp_path / "cache" / "qm9"
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


def break_molecule(root: Path, number: int) -> None:
    old = f"gdb_{number}\n     test\n\n"
    edit(root, "gdb9.sdf", old, old + "xx")


def test_listed_molecules_are_not_parsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    molecule_files.write(tmp_path, 20, skipped=(5, 7))
    expected = QM9(tmp_path).data_hash
    for number in (5, 7):
        break_molecule(tmp_path, number)
    assert QM9(tmp_path).verify_files() == []
    assert QM9(tmp_path).data_hash == expected
    assert capsys.readouterr().err == ""
    edit(tmp_path, "gdb9.sdf", "gdb_5\n", "gdb_55\n")
    with pytest.raises(UserError, match="molecule 5 is 'gdb_55'"):
        _ = QM9(tmp_path).splits


def test_a_few_unreadable_molecules_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    molecule_files.write(tmp_path / "listed", 220, skipped=(5, 7))
    molecule_files.write(tmp_path / "broken", 220)
    for number in (5, 7):
        break_molecule(tmp_path / "broken", number)
    for check in ([], ["--check"]):
        assert prepare.main(["qm9", "--data-root", str(tmp_path / "broken"), *check]) == 0
        error = capsys.readouterr().err
        assert "left out: " in error
        assert "molecule 5 ('gdb_5', from line " in error
        assert "molecule 7 ('gdb_7', from line " in error
        assert "qm9: 2 of 220 molecules left out" in error
    assert QM9(tmp_path / "broken").data_hash == QM9(tmp_path / "listed").data_hash
    break_molecule(tmp_path / "broken", 8)  # 3 of 220
    capsys.readouterr()
    assert prepare.main(["qm9", "--data-root", str(tmp_path / "broken"), "--check"]) == 1
    error = capsys.readouterr().err
    assert "3 problems" in error
    assert "molecule 8 ('gdb_8', from line " in error


def test_another_list_of_all_molecules_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    molecule_files.write(tmp_path, 20, skipped=(5, 7))
    assert QM9(tmp_path).list_notices() == []
    monkeypatch.setattr("datasets.multitask.qm9.ALL_MOLECULES", 20)
    (notice,) = QM9(tmp_path).list_notices()
    assert "uncharacterized.txt: lists 2 molecules, the published file 3,054" in notice


def test_line_of_a_bad_molecule_is_right(tmp_path: Path) -> None:
    molecule_files.write(tmp_path, 12)
    edit(tmp_path, "gdb9.sdf", "gdb_8\n     test\n\n", "gdb_8\n     test\n\nxx")
    lines = (tmp_path / "qm9" / "raw" / "gdb9.sdf").read_text().splitlines()
    with pytest.raises(UserError) as caught:
        _ = QM9(tmp_path).splits
    found = re.search(r"from line (\d+)", str(caught.value))
    assert found is not None
    assert lines[int(found.group(1)) - 1] == "gdb_8"


def test_too_few_or_many_molecules_are_refused(tmp_path: Path) -> None:
    molecule_files.write(tmp_path, 10)
    raw = tmp_path / "qm9" / "raw"
    text = (raw / "gdb9.sdf").read_text()
    (raw / "gdb9.sdf").write_text("$$$$\n".join(text.split("$$$$\n")[:-2]) + "$$$$\n")
    with pytest.raises(UserError, match=r"9 molecules, but gdb9.sdf.csv has 10 rows"):
        _ = QM9(tmp_path).splits


def test_an_empty_file_of_molecules_is_refused(tmp_path: Path) -> None:
    molecule_files.write(tmp_path, 10)
    assert not QM9(tmp_path).verify_files()
    path = tmp_path / "qm9" / "raw" / "gdb9.sdf"
    path.write_text("")
    with pytest.raises(UserError, match=r"gdb9.sdf: cannot be read"):
        _ = QM9(tmp_path).splits
    assert QM9(tmp_path).verify_files() == [
        f"{path}: cannot be read, expected a structure file (SDF)"
    ]


@pytest.mark.real_data
class TestRealMolecules:
    def test_targets_are_those_of_the_archive(self) -> None:
        benchmark = QM9(piece("qm9").parent)
        archive = np.load(piece("qm9", "qm9_subset.npz"), allow_pickle=False)
        numbers = dict(zip(archive["target_names"].tolist(), archive["targets"].T, strict=True))
        table = piece("qm9", "raw", "gdb9.sdf.csv").read_text().splitlines()[1:]
        names = [line.split(",")[0] for line in table]
        place = {str(name): row for row, name in enumerate(archive["id"].tolist())}
        rows = [place[name if name in place else name.removeprefix("gdb_")] for name in names]
        order = np.random.RandomState(0).permutation(len(names))
        mean, deviation = benchmark.cache.arrays["scales"].numpy()
        units = [1, 1, 27.2113825435, 27.2113825435, 1, 27.2113825435, *[0.04336414] * 4, 1]
        for column, (name, (source, _)) in enumerate(TARGETS.items()):
            expected = numbers[source][rows][order[:36]] * units[column]
            scaled = benchmark.splits["test"].targets[name].double().numpy()
            np.testing.assert_allclose(
                scaled * deviation[column] + mean[column], expected, rtol=1e-6, atol=1e-4
            )

    @pytest.mark.slow
    def test_everything_is_as_pytorch_geometric_reads_it(self, tmp_path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own use of deprecated functions
            pytest.importorskip("torch_geometric", reason="torch_geometric is not installed")
            from torch_geometric import datasets as others

            (tmp_path / "raw").symlink_to(piece("qm9", "raw").resolve())
            reference = others.QM9(str(tmp_path))
        benchmark = QM9(piece("qm9").parent)
        order = np.random.RandomState(0).permutation(len(reference))
        mean, deviation = benchmark.cache.arrays["scales"]
        first = 0
        for name in ("test", "validation", "train"):
            split = benchmark.splits[name]
            targets = torch.stack(list(split.targets.values()), dim=1) * deviation + mean
            for row in range(len(split)):
                other, found = reference[int(order[first + row])], split.inputs[torch.tensor([row])]
                expected = other.y[0, PUBLISHED].double()
                torch.testing.assert_close(targets[row], expected, rtol=1e-6, atol=1e-4)
                assert torch.equal(found.x, other.x)
                assert torch.equal(found.positions, other.pos)
                bonds = torch.zeros(len(other.x), len(other.x), 4)
                bonds[other.edge_index[0], other.edge_index[1]] = other.edge_attr.float()
                assert torch.equal(bonds[tuple(found.edge_index)], found.edge_attr[:, :4])
            first += len(split)


def test_unscaled_targets_are_in_their_own_units(tmp_path: Path) -> None:
    """As without ``--scale-y`` in the published code; errors are in the same units either way."""
    molecule_files.write(tmp_path, 40)
    benchmark = QM9(tmp_path)
    config = QM9.training_config
    assert benchmark.configure(config) is benchmark
    plain = benchmark.configure(replace(config, unscaled_targets=True))
    assert plain is benchmark.configure(replace(config, unscaled_targets=True))
    mean, deviation = benchmark.cache.arrays["scales"]
    for column, name in enumerate(TARGETS):
        scaled = benchmark.splits["train"].targets[name].double()
        expected = scaled * deviation[column] + mean[column]
        torch.testing.assert_close(
            plain.splits["train"].targets[name].double(), expected, rtol=1e-5, atol=1e-5
        )
        errors = []
        for found in (benchmark, plain):
            target = found.splits["train"].targets[name]
            meter = found.make_accumulators()[name]
            meter.update(torch.full_like(target, float(target.double().mean())), target)
            errors.append(meter.compute_metrics()[f"mae_{name}"])
        assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_a_run_learns_unscaled_targets(tmp_path: Path) -> None:
    molecule_files.write(tmp_path, 40)
    benchmark = QM9(tmp_path)
    resolved = resolve_method(load_method("ls"), benchmark)
    losses = []
    for unscaled in (False, True):
        values: Hyperparameters = {"epochs": 1, "model": "mpnn_small", "unscaled_targets": unscaled}
        run = Run(resolved.make_key(values, 0, detect_environment(gpu=False)), benchmark)
        losses.append(run.train_epoch().losses)
    assert losses[0] != losses[1]
    with pytest.raises(ValidationErrors, match="does not scale its targets"):
        resolve_method(load_method("ls"), load_benchmark("two_digits")).make_key(
            {"unscaled_targets": True}, 0, detect_environment(gpu=False)
        )


def test_ids_are_the_names_in_the_files(tmp_path: Path) -> None:
    skipped = (1, 7, 40)
    numbers = molecule_files.write(tmp_path, 120, skipped=skipped)
    break_molecule(tmp_path, 3)
    benchmark = QM9(tmp_path)
    column = NUMBERS.index("mu")
    seen: list[str] = []
    for name, split in benchmark.splits.items():
        ids = benchmark.list_ids(name)
        assert len(ids) == len(split)
        mean, deviation = benchmark.cache.arrays["scales"][:, 0]
        rows = [int(found.removeprefix("gdb_")) - 1 for found in ids]
        expected = (numbers[rows, column] - float(mean)) / float(deviation)
        np.testing.assert_allclose(split.targets["mu"], expected, rtol=2e-5, atol=1e-6)
        seen += ids
    left = set(range(1, 121)) - {*skipped, 3}
    assert sorted(seen) == sorted(f"gdb_{number}" for number in left)
