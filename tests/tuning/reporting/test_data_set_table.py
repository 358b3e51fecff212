"""The table of methods by data sets."""

from pathlib import Path

import pandas as pd

import datasets
from tests.support.summaries import make_summary_of, write_summary_of
from tuning.cli.main import main
from tuning.reporting.data_set_table import make_data_set_table
from tuning.reporting.layout.printed_table import TERMINAL_WIDTH, format_terminal

NAMES = ("colored_digits", "two_digits", "imbalanced_tasks", "civilcomments_small")
MISSING = ("dro", "two_digits")  # not measured
FEW_SEEDS = ("alpha_fair_cagrad", "colored_digits")


def write_results(folder: Path) -> None:
    """Write random results of three methods, one of which a data set lacks."""
    for name in NAMES:
        for seed, method in enumerate(("erm", "dro", "alpha_fair_cagrad")):
            seeds = 2 if (method, name) == FEW_SEEDS else 5
            summary = make_summary_of(datasets.load_benchmark(name), method, seeds, seed=seed)
            if (method, name) != MISSING:
                write_summary_of(folder, summary)


def test_export_compares_methods_over_data_sets(tmp_path: Path) -> None:
    write_results(tmp_path)
    assert main(["export", "--results", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "data_sets.csv").set_index("method")
    for name in NAMES:
        metric = f"test_{datasets.load_benchmark(name).reported_metrics[0]}"
        own = pd.read_csv(tmp_path / name / "table.csv").set_index("method")
        for part in ("mean", "std", "low", "high"):
            copied = table[f"{name}_{metric}_{part}"].dropna().to_dict()
            assert copied == own[f"{metric}_{part}"].dropna().to_dict()
    markdown = (tmp_path / "data_sets.md").read_text()
    assert all(name in markdown for name in NAMES)
    assert r"\mathbf" in (tmp_path / "data_sets.tex").read_text()


def test_one_data_set_needs_no_such_table(tmp_path: Path) -> None:
    write_summary_of(tmp_path, make_summary_of(datasets.load_benchmark(NAMES[0]), "erm", 5))
    assert main(["export", "--results", str(tmp_path)]) == 0
    assert not (tmp_path / "data_sets.md").exists()


def test_a_terminal_shows_every_data_set_and_says_what_is_missing() -> None:
    summaries = [
        make_summary_of(datasets.load_benchmark(name), method, 5, seed=1)
        for name in NAMES
        for method in ("erm", "dro")
        if (method, name) != MISSING
    ]
    lines = format_terminal(make_data_set_table(summaries), all_columns=True)
    assert max(map(len, lines)) <= TERMINAL_WIDTH
    assert all(any(name in line for line in lines if "Data:" not in line) for name in NAMES)
    rows = [line.split() for line in lines if line.startswith("dro ")]
    assert sum(row.count("-") for row in rows) == 1
    assert "[" in " ".join(rows[0])
