"""The commands compare and trace, on records of two methods and two data sets."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.tuning.reporting.test_export import CONTEXT, add_run
from tuning.cli.main import main
from tuning.cli.results import compare
from tuning.records.method_records import MethodRecords
from tuning.reporting.export_method import export_method
from tuning.reporting.tables import write_tables

TEST_VALUES = {"erm": (0.40, 0.45, 0.42), "rwg": (0.70, 0.72, 0.74), "dro": (0.71, 0.78, 0.70)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of three methods on two data sets, three seeds each."""
    folder = tmp_path_factory.mktemp("studies")
    for dataset in ("d", "e"):
        for method, values in TEST_VALUES.items():
            records = MethodRecords(folder / "results.records" / dataset / method)
            context = replace(CONTEXT, dataset=dataset, method=method, seeds=3)
            records.write_context(context)
            add_run(records, "search", 0, 0.1, 0.5, 0.4)
            add_run(records, "search", 1, 0.2, 0.3, 0.99)
            for seed, value in enumerate(values):
                add_run(records, "confirm", seed, 0.2, 0.3, value + 0.1)
            export_method(records, folder / "results")
    write_tables(folder / "results")
    return folder / "results"


def test_all_pairs_are_written(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(results)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "d: 3 seeds cannot tell dro from rwg (difference 1.0 points, p = 0.76)" in out
    assert "d: dro is better than erm (difference 30.7 points" in out
    assert "Mean ranks over 2 data sets: dro 1.00, rwg 2.00, erm 3.00. Friedman's test" in out
    assert "choice of configuration: the search has one training seed" in out
    pairs = pd.read_csv(results / "comparison.csv")
    assert pairs[["dataset", "better", "other"]].to_numpy().tolist()[1] == ["d", "dro", "erm"]
    assert pairs.difference_mean.tolist()[1] == pytest.approx(0.92 / 3)
    assert pairs.seeds.tolist() == [3] * 6
    assert "| d: rwg - erm " in (results / "comparison.md").read_text(encoding="utf-8")
    errors = pd.read_csv(results / "standard_errors.csv")
    assert errors[["dataset", "method"]].to_numpy().tolist()[0] == ["d", "dro"]
    squares = (
        errors[["training_seed", "finite_group", "configuration"]].fillna(0).pow(2).sum(axis=1)
    )
    assert errors.standard_error.pow(2).tolist() == pytest.approx(squares.tolist())


def test_a_terminal_shows_no_more_than_the_pairs_of_the_best(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MAX_ROWS", 5)
    assert main(["compare", str(results)]) == 0
    out = capsys.readouterr().out
    first = out[: out.index("Difference:")]
    assert first.count("d: dro - erm") == first.count("d: dro - rwg") >= 1
    assert "rwg - erm" not in out
    assert "all 6 are in the files" in out
    assert len(pd.read_csv(results / "comparison.csv")) == 6


def test_methods_of_two_folders_have_their_names(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = MethodRecords(results.parent / "results.records" / "d" / "erm")
    export_method(records, tmp_path)
    assert main(["compare", str(tmp_path), str(results), "--dataset", "d"]) == 0
    pairs = pd.read_csv(tmp_path / "comparison.csv")
    assert f"erm ({tmp_path})" in pairs.other.tolist()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("dro - ")]
    ends = (str(tmp_path)[-9:] + ") ", str(results)[-9:] + ") ", "rwg ")
    assert all(any(end in row for row in rows) for end in ends)  # the second method is shown
    assert main(["compare", str(results), str(results / ".." / results.name)]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert main(["compare", str(tmp_path)]) == 2
    assert "expected two methods" in capsys.readouterr().err
    assert main(["compare", str(results), "--metric", "average_acuracy"]) == 2
    assert "did you mean 'average_accuracy'" in capsys.readouterr().err
    assert main(["compare", str(results), "--dataset", "f"]) == 2
    assert main(["compare", str(tmp_path / "none")]) == 2


def test_a_winner_better_than_its_seeds_explain_is_noted(results: Path) -> None:
    table = pd.read_csv(results / "d" / "table.csv")
    assert table.method.tolist() == ["dro", "erm", "rwg"]
    assert table.winner_searched.tolist() == pytest.approx([0.99] * 3)
    assert table.winner_validation.tolist()[2] == pytest.approx(0.82)
    assert table.winner_test.tolist()[2] == pytest.approx(0.72)
    assert table.test_worst_group_accuracy_mark.fillna("").tolist() == ["best", "", "tied"]
    text = (results / "d" / "table.md").read_text(encoding="utf-8")
    assert "rwg (worst group: search 99.0, validation 82.0, test 72.0)" in text


def test_a_number_is_traced(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["trace", str(results), "--method", "rwg", "--dataset", "d"]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert "number:   mean 0.72, standard deviation 0.02" in out
    assert "chosen:   trial 1 at epoch 2, value 0.99" in out
    for seed, value in enumerate(TEST_VALUES["rwg"]):
        assert f"seed {seed}:   {value:.6g} at epoch 2, {results}.records/d/rwg/runs/" in out
    assert "rule:     validation_worst_group_accuracy" in out
    chosen = results / "by_validation_worst_group_accuracy"
    export_method(MethodRecords(results.parent / "results.records/d/rwg"), chosen)
    assert main(["trace", str(chosen), "--method", "rwg"]) == 0
    assert f"{results}.records/d/rwg/runs/" in capsys.readouterr().out
    assert "repeat:   python tune.py --method rwg --dataset d" in out
    assert main([*given, "--column", "validation_worst_group_accuracy_mean"]) == 0
    assert "number:   mean 0.82" in capsys.readouterr().out
    for mistaken, words in (
        (["--column", "test_wrst_group_accuracy"], "did you mean 'test_worst_group_accuracy'"),
        (["--dataset", "g"], "unknown data set 'g'"),
        (["--method", "rgw"], "did you mean 'rwg'"),
    ):
        assert main([*given, *mistaken]) == 2
        assert words in capsys.readouterr().err
    assert main(["trace", str(results), "--method", "rwg"]) == 2
    assert "--dataset is required" in capsys.readouterr().err


@pytest.mark.parametrize(("further", "winner"), [(0.4, 0), (0.9, 1)])
def test_the_trace_names_finalists_and_defaults_that_were_kept(
    further: float, winner: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = MethodRecords(tmp_path / "results.records" / "d" / "erm")
    rule = "validation_worst_group_accuracy_or_default"
    records.write_context(
        replace(CONTEXT, rule=rule, seeds=1, finalists=2, default_proposal={"lr": 0.1})
    )
    for number, (lr, value) in enumerate(((0.1, 0.5), (0.2, 0.6))):
        add_run(records, "search", number, lr, value, value)
        for seed in (1, 2, 3) if winner else (1,):
            found = further if number else 0.7
            add_run(records, "finalist", number, lr, found, found, further_seed=seed)
    add_run(records, "confirm", 0, (0.1, 0.2)[winner], 0.7, 0.8)
    export_method(records, tmp_path / "results")
    assert main(["trace", str(tmp_path / "results"), "--method", "erm"]) == 0
    out = capsys.readouterr().out
    seeds = 3 if winner else 1
    own, other = (", ".join([f"{value:g}"] * seeds) for value in (0.7, further))
    assert f"finalist: trial 0, the default hyperparameters: {own} on further seeds\n" in out
    assert f"finalist: trial 1: {other} on further seeds\n" in out
    assert f"chosen:   trial {winner} at epoch 1" in out
    kept = "kept because no trial was better by a standard error on further seeds\n"
    assert (kept in out) == (not winner)
    write_tables(tmp_path / "results")
    text = (tmp_path / "results" / "d" / "table.md").read_text(encoding="utf-8")
    kept = "were kept because no trial was better by a standard error on further training seeds"
    assert (f"{kept}: erm." in " ".join(text.split())) == (not winner)
