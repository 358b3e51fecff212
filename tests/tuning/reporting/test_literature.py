"""``export --with published``: rows of the literature beside measured ones, ranked together."""

from pathlib import Path

import pandas as pd
import pytest

import datasets
from datasets.benchmark import Benchmark
from datasets.environments.base import EnvironmentBenchmark
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.ranks import compute_mean_ranks
from datasets.published_results import (
    PublishedRow,
    list_published,
    read_printed_tables,
    read_published_rows,
)
from tests.support.summaries import make_summary_of, write_summary_of
from tuning.cli.main import main

ROWS = [(name, row) for name in list_published() for row in read_published_rows(name)]


def write_results(benchmark: Benchmark, folder: Path) -> None:
    """Write the summary of a method ``mine`` with the same value for all metrics."""
    write_summary_of(folder, make_summary_of(benchmark, "mine"))


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda part: getattr(part, "method", part))
def test_published_rows_fit_their_data_set(name: str, row: PublishedRow) -> None:
    benchmark = datasets.load_benchmark(name)
    assert set(row.metrics) <= set(benchmark.higher_is_better)
    assert row.source
    assert row.protocol
    if isinstance(benchmark, TaskBenchmark):
        delta = row.metrics.get("delta_m")
        assert row.is_baseline == (delta is None)
        if set(benchmark.task_metrics) <= set(row.metrics):
            means = {metric: row.metrics[metric].mean for metric in benchmark.task_metrics}
            found = benchmark.add_deltas(means)["delta_m"]
            assert found == pytest.approx(delta.mean if delta else 0, abs=1.5)
    elif isinstance(benchmark, EnvironmentBenchmark):
        assert 0 < row.metrics["success"].mean < 1
    else:
        assert 0.5 < row.metrics["worst_group_accuracy"].mean < 1


@pytest.mark.parametrize("name", list_published())
def test_every_row_is_read(name: str) -> None:
    rows = [row.method for row in read_published_rows(name)]
    assert rows == [method for table in read_printed_tables(name) for method in table]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", ["nyuv2", "cityscapes", "qm9", "celeba40"])
def test_tables_rank_both_together_and_mark_what_was_measured(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = datasets.load_benchmark(name)
    assert isinstance(benchmark, TaskBenchmark)
    write_results(benchmark, tmp_path)
    assert main(["export", "--results", str(tmp_path), "--with", "published"]) == 0
    published = read_published_rows(name)
    table = pd.read_csv(tmp_path / name / "table.csv").set_index("method")
    assert list(table.index) == ["mine", *(f"{row.method} (published)" for row in published)]
    assert list(table["measured_here"]) == [True, *[False] * len(published)]
    ranked = {"mine": dict.fromkeys(benchmark.task_metrics, 0.5)}
    for row in published:
        if row.method != "STL" and len(row.metrics) > 1:
            ranked[f"{row.method} (published)"] = {n: v.mean for n, v in row.metrics.items()}
    expected = compute_mean_ranks(ranked, benchmark.task_metrics)
    assert table["mean_rank"].dropna().to_dict() == pytest.approx(expected)
    assert "STL (published)" in table.index[table["mean_rank"].isna()]
    for row in published:
        line = table.loc[f"{row.method} (published)"]
        assert (line.source, line.protocol) == (row.source, row.protocol)
        if "delta_m" in row.metrics:
            assert line.test_delta_m_mean == row.metrics["delta_m"].mean
    text = (tmp_path / name / "table.md").read_text()
    assert "| FairGrad (published)" in text
    assert all(row.source in text and row.protocol in text for row in published)
    assert "tables:" in capsys.readouterr().out


def test_tables_of_groups_have_published_means_and_deviations(tmp_path: Path) -> None:
    write_results(datasets.load_benchmark("civilcomments_small"), tmp_path)
    assert main(["export", "--results", str(tmp_path), "--with", "published"]) == 0
    lines = (tmp_path / "civilcomments_small" / "table.md").read_text().splitlines()
    parts = [line for line in lines if line.startswith("| erm_mt_l1 (published)")]
    cells = [cell.strip(" *") for part in parts for cell in part.split("|")]  # the best are bold
    assert "69.45 ± 1.90" in cells
    assert "82.00 ± 0.63" in cells
    assert any("| here" in line for line in lines if line.startswith("| method"))
    assert "mean rank" not in "".join(lines)


@pytest.mark.parametrize("name", [name for name in list_published() if name != "celeba40"])
def test_printed_tables_show_published_values_with_their_own_digits(
    name: str, tmp_path: Path
) -> None:
    benchmark = datasets.load_benchmark(name)
    write_results(benchmark, tmp_path)
    assert main(["export", "--results", str(tmp_path), "--with", "published"]) == 0
    text = (tmp_path / name / "table.md").read_text()
    for table in read_printed_tables(name):
        for method, printed in table.items():
            lines = [line for line in text.splitlines() if line.startswith(f"| {method} (")]
            shown = {cell.strip(" *").strip("+%") for line in lines for cell in line.split("|")}
            for value in printed[: len(printed) - 2 * isinstance(benchmark, TaskBenchmark)]:
                mean, _, std = value.partition("+-")
                own = [mean.removeprefix("0")]
                # Shares of tasks are printed as such.
                own += [f".{mean.replace('.', '')}"] if not std else []
                wanted = {f"{one}{' ± ' if std else ''}{std}" for one in own}
                assert value == "-" or wanted & {cell.removeprefix("0") for cell in shown}


def test_the_batch_size_of_the_released_erm_l1_is_said(tmp_path: Path) -> None:
    write_results(datasets.load_benchmark("civilcomments_small"), tmp_path)
    assert main(["export", "--results", str(tmp_path), "--with", "published"]) == 0
    folder = tmp_path / "civilcomments_small"
    note = "erm_l1: released with batch size 8, where the values file, and so --search published"
    assert (folder / "table.md").read_text().count(note) == 1
    table = pd.read_csv(folder / "table.csv").set_index("method")
    assert note in str(table.protocol["erm_l1 (published)"])
    assert note not in str(table.protocol["erm (published)"])


def test_only_asked_rows_are_added_and_unknown_data_sets_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(datasets.load_benchmark("cityscapes"), tmp_path)
    assert main(["export", "--results", str(tmp_path)]) == 0
    assert "published" not in (tmp_path / "cityscapes" / "table.csv").read_text()
    write_results(datasets.load_benchmark("two_digits"), tmp_path)
    assert main(["export", "--results", str(tmp_path), "--with", "published"]) == 0
    assert "no published rows: two_digits" in capsys.readouterr().out
    other = tmp_path / "other"
    write_results(datasets.load_benchmark("two_digits"), other)
    assert main(["export", "--results", str(other), "--with", "published"]) == 2
    error = capsys.readouterr().err
    assert "no published rows for two_digits; known: celeba, celeba40" in error
