"""The papers' tables: valid study files, and results beside the published values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import datasets
from core.recipe.method_files import list_methods, load_method
from datasets.published_results import PublishedRow, PublishedValue, read_published_rows
from tests.support.summaries import make_summary_of, write_summary_of
from tuning.cli.main import main
from tuning.cli.make_options import make_command
from tuning.cli.reproduce import FOLDER, list_tables, make_parser, read_costs, read_table
from tuning.publishing.reproduction import (
    ComparedCell,
    count_seeds,
    describe_deviations,
    find_method,
)
from tuning.reporting.intervals import compute_statistics


@pytest.mark.parametrize("table", list_tables())
def test_a_table_trains_the_published_values_of_every_method_that_is_here(table: str) -> None:
    options = make_command(read_table(table, make_parser().parse_args([]))).options
    assert (options.dataset, options.protocol) == (table, "published")
    assert all(table in load_method(name).published for name in options.methods)
    rows = [row for row in read_published_rows(table) if not row.is_baseline]
    known = [row for row in rows if find_method(row.method) in list_methods()]
    published = {name for name in list_methods() if table in load_method(name).published}
    assert {find_method(row.method) for row in known} & published - {"sdmgrad"} <= {
        *options.methods
    }
    assert all(count_seeds(row) for row in known)
    cost = read_costs()[table]
    assert set(cost.seconds) <= set(options.methods)
    assert cost.other >= max(cost.seconds.values())


def test_the_plan_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--plan", "--data-root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "mt10: nothing will be compared: Ban & Ji, ICML 2024, published" in text
    assert text.count("nothing will be compared") == 1
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    hours = {row[1].strip(): float(row[5].replace(",", "")) for row in rows[2:]}
    assert sorted(hours) == sorted(list_tables())
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted([*hours, "costs"])
    seconds = sum(read_costs()["nyuv2"].seconds.values()) + 2 * read_costs()["nyuv2"].other
    assert hours["nyuv2"] == round(200 * 3 * seconds / 3600)


def make_cell(measured: float, published: float, std: float | None = 0.02) -> ComparedCell:
    value = PublishedValue(published, 0.03, 4, 4)
    return ComparedCell("erm", "m", value, 5, measured, std, 3, True)


def test_the_standard_error_is_that_of_the_difference() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.normal(0, 0.02, (20000, 3)), random.normal(0, 0.03, (20000, 5))
    spread = float(np.std(ours.mean(axis=1) - theirs.mean(axis=1)))
    error = make_cell(0.5, 0.5).standard_error
    assert error == pytest.approx(spread, rel=0.02)
    assert make_cell(0.5 + 3 * spread, 0.5).standard_errors == pytest.approx(3, rel=0.02)


def test_verdicts() -> None:
    error, freedom = make_cell(0, 0).standard_error, make_cell(0, 0).degrees_of_freedom
    assert error is not None
    assert freedom == pytest.approx(5.779, abs=0.001)  # (a + b)^2 / (a^2 / 2 + b^2 / 4)
    # its quantiles of 97.5% and 99.5% are 2.47 and 3.77
    by_distance = {2.4: "agrees", -2.4: "agrees", 2.6: "perhaps better", -2.6: "perhaps worse",
                   3.7: "perhaps better", 3.9: "better", -3.9: "worse"}  # fmt: skip
    for distance, verdict in by_distance.items():
        cell = make_cell(0.5 + distance * error, 0.5)
        assert cell.verdict == verdict
        flipped = replace(cell, higher_is_better=False).verdict
        opposite = {"better": "worse", "worse": "better"}
        assert flipped == " ".join(opposite.get(word, word) for word in verdict.split())
    assert make_cell(0.5, 0.5, std=None).verdict == "no standard deviation (one seed)"
    assert make_cell(0.5, 0.5, std=1e-17).verdict == "no standard deviation (equal seeds)"
    assert make_cell(0.5, 0.5, std=1e-17).standard_errors is None
    assert make_cell(0.0, 0.5, std=0.0).verdict == "no standard deviation (equal seeds)"
    assert replace(make_cell(0.5, 0.5), measured=None).verdict == "not measured"


@pytest.mark.parametrize("has_deviation", [False, True])
@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (5, 5), (3, 5)])
def test_one_in_twenty_equal_methods_does_not_agree(
    ours: int, theirs: int, has_deviation: bool
) -> None:
    random, draws = np.random.default_rng(0), 2000
    verdicts = []
    for _ in range(draws):
        a, b = random.normal(size=ours), random.normal(size=theirs)
        std = float(np.std(b, ddof=1)) if has_deviation else None
        value = PublishedValue(float(np.mean(b)), std, 4, 4)
        mean = float(np.mean(a)), float(np.std(a, ddof=1))
        verdicts.append(ComparedCell("erm", "m", value, theirs, *mean, ours, True).verdict)
    found = 1 - verdicts.count("agrees") / draws
    assert 0.03 < found < 0.065
    assert sum(verdict in ("better", "worse") for verdict in verdicts) < 0.02 * draws


def test_a_published_method_has_a_name_here() -> None:
    names = {"FairGrad": "fairgrad", "Nash-MTL": "nashmtl", "IMTL-G": "imtl", "LS": "ls",
             "erm_mt_l1": "erm_mt_l1"}  # fmt: skip
    assert {name: find_method(name) for name in names} == names
    assert count_seeds(PublishedRow("a", "b", "10 epochs, 3 seeds", {})) == 3
    assert count_seeds(PublishedRow("a", "b", "10 epochs", {})) == 0


def test_values_of_other_tasks_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_summary_of(tmp_path, make_summary_of(datasets.load_benchmark("mt10"), "ls"))
    assert main(["reproduce", "mt10", "--compare", "--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("mt10: nothing is compared: Ban & Ji, ICML 2024, published success")
    assert not list(tmp_path.rglob("reproduction.*"))


@pytest.mark.parametrize(("batch_size", "is_compared"), [(32, False), (8, True)])
def test_rows_of_other_hyperparameters_are_not_compared(
    batch_size: int,
    is_compared: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = make_summary_of(datasets.load_benchmark("civilcomments_small"), "erm_l1")
    published = load_method("erm_l1").published["civilcomments_small"]
    metrics = {"test_worst_group_accuracy": compute_statistics([0.66, 0.67, 0.65])}
    trained = {**published, "batch_size": batch_size}
    write_summary_of(tmp_path, replace(summary, metrics=metrics, hyperparameters=trained))
    command = ["reproduce", "civilcomments_small", "--compare", "--results", str(tmp_path)]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert ("1 of 1 cells agree" if is_compared else "0 of 0 cells agree") in text
    assert ("not compared: other training" in text) == (not is_compared)
    assert ("erm_l1 was trained with batch_size 32 (published 8)" in text) == (not is_compared)
    assert "erm_l1: released with batch size 8" in text
    assert "jtt" not in text


def test_all_deviations_from_the_published_study_are_named() -> None:
    benchmark = datasets.load_benchmark("nyuv2")
    published = load_method("ls").published["nyuv2"]
    summary = replace(
        make_summary_of(benchmark, "ls"),
        hyperparameters={**published, "training_split": "train_and_validation"},
        training_split="train_and_validation",
        rule="published_last10",
        oracle=True,
    )
    assert describe_deviations(summary, benchmark) == [
        "ls was selected on the test split, as published."
    ]
    changed = {"lr": published["lr"], "momentum": 0.5}
    other = replace(summary, hyperparameters=changed, training_split="train", complete=False)
    assert describe_deviations(replace(other, rule="test_delta_m"), benchmark) == [
        "ls was trained with the default of batch_size (published 2), "
        "momentum 0.5 (not published).",
        "ls was trained on train (published train_and_validation).",
        "ls was selected by test_delta_m (published published_last10).",
        "ls was selected on the test split.",
        "ls is not complete: 1 seed so far.",
    ]


def test_results_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "civilcomments_small", "--compare", "--results", str(tmp_path)]
    assert main(command) == 2
    assert "no results of civilcomments_small" in capsys.readouterr().err
    benchmark = datasets.load_benchmark("civilcomments_small")
    summary = make_summary_of(benchmark, "erm")
    published = dict(load_method("erm").published["civilcomments_small"])
    metrics = {
        "test_worst_group_accuracy": compute_statistics([0.67, 0.68, 0.66]),
        "test_average_accuracy": compute_statistics([0.91, 0.92, 0.93]),
    }
    changed = {**published, "epochs": 2}
    write_summary_of(tmp_path, replace(summary, metrics=metrics, hyperparameters=changed))
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "1 of 2 cells agree" in text
    assert "erm was trained with epochs 2" in text
    assert main(["reproduce", "--compare", "--results", str(tmp_path)]) == 0
    all_tables = capsys.readouterr().out
    others = [table for table in list_tables() if table != "civilcomments_small"]
    assert all_tables == f"{text}no results of {', '.join(others)} in '{tmp_path}'\n"
    folder = tmp_path / "civilcomments_small"
    assert (folder / "reproduction.md").read_text() == text
    table = pd.read_csv(folder / "reproduction.csv")
    assert table.verdict.tolist() == ["agrees", "better"]
    assert table.published_seeds.tolist() == [5, 5]
    damaged = folder / "jtt" / "summary.json"
    damaged.parent.mkdir()
    damaged.write_text('{"a')
    assert main(command) == 1
    output = capsys.readouterr()
    assert output.out == text
    assert output.err.startswith(f"left out: {damaged}: ")
    publish = ["publish", str(tmp_path), "--method", "jtt", "--dataset", "civilcomments_small"]
    assert main([*publish, "--to", str(tmp_path / "published")]) == 2
    assert f"'{damaged}': not the summary of a study" in capsys.readouterr().err
