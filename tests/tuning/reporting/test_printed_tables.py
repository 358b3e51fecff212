"""Tables that people read: narrow on terminals, in Markdown and on a page of LaTeX."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import datasets
from core.recipe.method_files import list_methods
from datasets.published_results import list_published, read_published_rows
from tests.conftest import EMBEDDED
from tests.support.summaries import make_summary_of, write_summary_of
from tuning.reporting.intervals import SeedStatistics, compute_statistics
from tuning.reporting.layout.columns import Column, choose_format, find_best
from tuning.reporting.layout.latex import format_latex
from tuning.reporting.layout.printed_table import (
    MARKDOWN_WIDTH,
    TERMINAL_WIDTH,
    PrintedTable,
    format_table_as_markdown,
    format_terminal,
)
from tuning.reporting.tables import make_printed_table, write_tables
from tuning.study.messages import highlight_best

NAMES = [name for name in datasets.list_benchmarks() if name != "folder"]
METHODS = ["erm", "alpha_fair_cagrad", "dro_mt_l1"]
DOCUMENT = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\clearpage\end{document}"


def make_table(name: str, with_published: bool = False) -> PrintedTable:
    """Return a table of random results, of one seed, of two and of five."""
    benchmark = datasets.load_benchmark(name)
    summaries = [
        make_summary_of(benchmark, method, seeds, seed=seeds)
        for method, seeds in zip(METHODS, (1, 2, 5), strict=True)
    ]
    published = read_published_rows(name) if with_published else []
    return make_printed_table(summaries, published)


@pytest.mark.parametrize("name", NAMES)
def test_tables_fit_terminals_and_pages(name: str) -> None:
    table = make_table(name)
    lines = format_terminal(table)
    assert max(map(len, lines)) <= TERMINAL_WIDTH
    assert all(any(line.startswith(method) for line in lines) for method in METHODS)
    main = datasets.load_benchmark(name).reported_metrics[0]
    heads = " ".join(lines[:2])
    for word in ("val.", "test", "interval", "seeds", *main.removesuffix("_accuracy").split("_")):
        assert word in heads
    assert max(map(len, format_terminal(table, 60))) <= 60
    rows = [line for line in format_table_as_markdown(table).splitlines() if line.startswith("|")]
    assert max(map(len, rows)) <= MARKDOWN_WIDTH


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_a_column_have_one_precision(name: str) -> None:
    table = make_table(name)
    for column in (*table.columns, *(c for part in table.details for c in part.columns)):
        numbers = re.findall(r"\d+\.(\d+)(?!\S*e)", " ".join(column.cells))
        assert len({len(decimals) for decimals in numbers}) <= 1, column
        if "delta" in column.title:
            assert all(re.match(r"[+-][\d.e+]+( ± [\d.]+)?%$", cell) for cell in column.cells)


def compile_latex(text: str, folder: Path) -> str:
    """Return the log of a document, which must compile."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on this machine")
    (folder / "table.tex").write_text(DOCUMENT % text, encoding="utf-8")
    given = ["pdflatex", "-interaction=batchmode", "-halt-on-error", "-draftmode", "table.tex"]
    done = subprocess.run(given, cwd=folder, capture_output=True, check=False)
    log = (folder / "table.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log
    return log


@pytest.mark.parametrize("name", NAMES)
def test_latex_tables_compile_without_overfull_boxes(name: str, tmp_path: Path) -> None:
    benchmark = datasets.load_benchmark(name)
    for number, method in enumerate(METHODS):
        write_summary_of(tmp_path, make_summary_of(benchmark, method, 5, seed=number))
    other = datasets.load_benchmark("imbalanced_tasks" if name == "two_digits" else "two_digits")
    for number, method in enumerate(METHODS[1:], start=1):
        write_summary_of(tmp_path, make_summary_of(other, method, number, seed=number))
    write_tables(tmp_path, with_published=name in list_published())
    files = (f"{name}/table.tex", "best_configs.tex", "data_sets.tex")
    paths = [tmp_path / file for file in files]
    log = compile_latex("".join(path.read_text(encoding="utf-8") for path in paths), tmp_path)
    assert "Overfull" not in log
    assert "too large" not in log


@pytest.mark.parametrize("name", EMBEDDED)
def test_latex_of_all_methods_fits_pages(name: str, tmp_path: Path) -> None:
    benchmark = datasets.load_benchmark(name)
    summaries = [make_summary_of(benchmark, m, 5, seed=i) for i, m in enumerate(list_methods())]
    log = compile_latex(format_latex(make_printed_table(summaries)), tmp_path)
    assert "Overfull" not in log
    assert "too large" not in log


def test_latex_has_a_label_arrows_and_aligned_numbers() -> None:
    columns = (
        Column(("test worst", "group"), ("9.5 ± 2.0", "100.0 ± 14.1", "40.0", "-"), True,
               frozenset({1}), frozenset({0})),
        Column(("", "delta_m"), ("+1.5 ± 0.2%", "-11.0 ± 0.1%", "+0.1%", "-"), False),
    )  # fmt: skip
    text = format_latex(PrintedTable("50% & more", "my data#1", "method", tuple("abcd"), columns))
    assert r"\caption{50\% \& more. Bold" in text
    assert r"\label{tab:my-data-1}" in text
    assert r"\centering" in text
    assert r"group $\uparrow$ & Delta\_m (\%) $\downarrow$" in text
    rows = re.findall(r"^[abcd] & (.*) & (.*) \\tabularnewline$", text, re.MULTILINE)
    assert rows[0][0] == r"$\phantom{00}9.5 \pm \phantom{0}2.0$\rlap{$^{\ast}$}".replace(
        "{00}", "{0}\\phantom{0}"
    )
    assert rows[1][0] == r"$\mathbf{100.0} \pm 14.1$"
    assert rows[2][0].startswith(r"$\phantom{0}40.0\phantom{{} \pm ")
    assert rows[3] == ("--", "--")
    assert rows[1][1] == r"$-11.0 \pm 0.1$"
    assert rows[0][1] == r"$\phantom{0}+1.5 \pm 0.2$"


def test_numbers_with_different_decimals_are_aligned_at_the_point() -> None:
    columns = (Column(("", "f1"), ("9.5 ± 1", "10.25 ± 0.5", "3 ± 2"), True),)
    text = format_latex(PrintedTable("t", "t", "method", tuple("abc"), columns))
    zero, point = r"\phantom{0}", r"\phantom{.}"
    assert re.findall(r"^[abc] & (.*) \\tabularnewline$", text, re.MULTILINE) == [
        rf"${zero}9.5{zero} \pm 1{point}{zero}$",
        r"$10.25 \pm 0.5$",
        rf"${zero}3{point}{zero}{zero} \pm 2{point}{zero}$",
    ]


def test_the_best_cells_of_a_terminal_are_bold() -> None:
    lines = ["a  76.7 ± 3.3^  1", "b  +1.5% [1, 2]^  72.0*", "^: the best of a column."]
    text = highlight_best(lines)
    bold = [text.plain[span.start : span.end] for span in text.spans]
    assert bold == ["76.7 ± 3.3^", "+1.5% [1, 2]^"]


def statistics(mean: float, std: float | None, n: int) -> SeedStatistics:
    return SeedStatistics(mean, std, None, None, n)


def test_ties_are_those_that_a_test_does_not_distinguish_from_the_best() -> None:
    column = [
        compute_statistics([0.70, 0.72, 0.74]),  # the best
        compute_statistics([0.69, 0.71, 0.75]),
        compute_statistics([0.10, 0.11, 0.12]),
        statistics(0.715, None, 1),  # too few seeds to tell
        None,
        compute_statistics([0.99, 0.99, 0.99]),  # selected on the test split
    ]
    compared = [True] * 5 + [False]
    assert find_best(column, True, compared) == (frozenset({0}), frozenset({1}))
    assert find_best(column, False, compared)[0] == {2}
    assert find_best(column[:1], True, compared) == (frozenset(), frozenset())


def test_one_diverged_method_does_not_set_the_precision() -> None:
    column = [statistics(value, 0.01, 3) for value in (0.4321, 0.5432, 1e12)]
    form = choose_format("sum_mae", False, column)
    assert [form.format_mean(one) for one in column] == [
        "0.4321 ± 0.0100", "0.5432 ± 0.0100", "1.00e+12 ± 0.0100",
    ]  # fmt: skip


def test_facts_that_rows_share_are_said_once_and_others_by_row() -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    one, two = (make_summary_of(benchmark, name, 3, seed=1) for name in ("a", "b"))
    text = "\n".join(make_printed_table([one, two]).notes)
    assert "Budget: 1 trial of 1 epoch (random, none), 3 confirmation seeds." in text
    other = replace(two, search="published", rule="oracle_test_worst_group_accuracy", oracle=True)
    text = "\n".join(make_printed_table([one, other]).notes)
    assert "published hyperparameters, 3 confirmation seeds of 1 epoch (b)" in text
    assert "Selected on the TEST split" in text


def test_csv_files_share_names_and_round_no_more_than_they_must(tmp_path: Path) -> None:
    for name in ("colored_digits", "two_digits"):
        benchmark = datasets.load_benchmark(name)
        summary = make_summary_of(benchmark, "a", 3, seed=1)
        metric = f"test_{benchmark.reported_metrics[0]}"
        found = replace(summary.metrics[metric], mean=0.1 + 0.2)
        write_summary_of(tmp_path, replace(summary, metrics={**summary.metrics, metric: found}))
    write_tables(tmp_path)
    best = pd.read_csv(tmp_path / "best_configs.csv").set_index("dataset")
    for name in best.index:
        table = pd.read_csv(tmp_path / name / "table.csv").set_index("dataset")
        assert set(table) <= set(best)
        assert table.loc[name].dropna().to_dict() == best.loc[name, list(table)].dropna().to_dict()
    assert "0.3," in (tmp_path / "best_configs.csv").read_text()
    assert "0.30000000000000004" not in (tmp_path / "best_configs.csv").read_text()
