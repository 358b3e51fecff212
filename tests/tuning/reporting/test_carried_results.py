"""The results that the repository carries have the form of what a study writes today."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

import datasets
from common.project import ROOT
from common.yaml_files import read_yaml_file
from core.recipe.method_files import list_methods, load_method
from tests.support.study_records import StudyNames, write_studies
from tests.support.summaries import make_summary_of, write_summary_of
from tools.draw_results import GROUPS, TASKS, THEMES, draw_picture, main
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.reporting.export_method import export_method
from tuning.reporting.tables import write_tables

CARRIED = ROOT / "results" / "embedded"
DATA_SETS = sorted(path.parent.name for path in CARRIED.glob("*/table.csv"))
DRAWN = {f"methods{suffix}.svg" for suffix in THEMES}
REMEDY = (
    "the form of exports has changed: run `python tune.py export --results results/embedded`, or "
    "`make results` where summaries lack a value"
)


def test_the_embedded_data_sets_are_carried() -> None:
    assert {"colored_digits", "two_digits"} <= set(DATA_SETS)


def test_tables_are_those_that_a_study_writes_from_the_carried_summaries(tmp_path: Path) -> None:
    for path in CARRIED.glob("*/*/summary.json"):
        copy = tmp_path / path.relative_to(CARRIED)
        copy.parent.mkdir(parents=True)
        shutil.copyfile(path, copy)
    assert write_tables(tmp_path) == [], REMEDY
    kinds = {".csv", ".md", ".tex"}
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.suffix in kinds}
    assert {path.relative_to(CARRIED) for path in CARRIED.glob("*/table.*")} < written
    for path in written:
        assert (CARRIED / path).read_bytes() == (tmp_path / path).read_bytes(), f"{path}: {REMEDY}"


@pytest.mark.parametrize("dataset", DATA_SETS)
def test_methods_have_equal_budgets_and_five_seeds(dataset: str) -> None:
    table = pd.read_csv(CARRIED / dataset / "table.csv")
    assert table["complete"].all()
    assert set(table["seeds"]) == {5}
    for column in ("search", "scheduler", "search_seeds", "trials", "selection"):
        assert table[column].nunique() == 1, column
    for file in ("best_config.yaml", "summary.json"):
        folders = {path.parent.name for path in (CARRIED / dataset).glob(f"*/{file}")}
        assert folders == set(table["method"]), file
    page = (CARRIED / "report.html").read_text(encoding="utf-8")
    assert all(f"<strong><bdi>{method}</bdi></strong>" in page for method in table["method"])


def test_best_configurations_have_the_keys_that_a_study_writes(tmp_path: Path) -> None:
    write_studies(tmp_path, StudyNames(dataset="d", methods=("erm",)))
    (records,) = (path.parent for path in tmp_path.rglob("export.json"))
    export_method(MethodRecords(records), tmp_path / "results")
    expected = list_keys(read_yaml_file(tmp_path / "results" / "d" / "erm" / "best_config.yaml"))
    paths = sorted(CARRIED.glob("*/*/best_config.yaml"))
    assert paths
    for path in paths:
        assert list_keys(read_yaml_file(path)) == expected, f"{path}: {REMEDY}"


def list_keys(content: Mapping[str, object]) -> set[str]:
    """Return the keys of a best configuration, without those that differ between studies."""
    keys = set(content)
    for part in ("selection", "provenance"):
        found = content[part]
        assert isinstance(found, Mapping)
        keys |= {f"{part}.{key}" for key in found}
    return keys


@pytest.mark.parametrize("dataset", DATA_SETS)
def test_pictures_show_every_method_of_the_table(dataset: str) -> None:
    table = pd.read_csv(CARRIED / dataset / "table.csv")
    for suffix, theme in THEMES.items():
        carried = (CARRIED / dataset / f"methods{suffix}.svg").read_text(encoding="utf-8")
        drawn = draw_picture(table, theme)
        marks = drawn.count(f"fill: {theme.worst}"), drawn.count(f"fill: {theme.average}")
        assert carried.count(f"fill: {theme.worst}") == marks[0] >= len(table)
        assert carried.count(f"fill: {theme.average}") == marks[1] >= len(table)


def test_tables_of_other_metrics_have_no_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mt10").mkdir()
    table = tmp_path / "mt10" / "table.csv"
    table.write_text("method,test_success_mean\nls,0.5\n", encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no picture: {table} is of neither groups nor tasks\n"
    assert list(table.parent.iterdir()) == [table]


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_texts_of_pictures_have_the_numbers_of_the_tables(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r'embedded/(\w+)/methods.svg" alt="([^"]*)"', text)
    assert found
    for dataset, words in found:
        table = pd.read_csv(CARRIED / dataset / "table.csv").set_index("method")
        numbers = re.findall(r"(\w+) ([+-]?\d+\.\d) and ([+-]?\d+\.\d)", words)
        assert sorted(method for method, _, _ in numbers) == sorted(table.index)
        picture, signs = (GROUPS, "") if "test_worst_group_accuracy_mean" in table else (TASKS, "+")
        for method, *given in numbers:
            row = table.loc[method]
            means = [row[f"{one.column}_mean"] for one in (picture.worst, picture.average)]
            assert given == [f"{picture.factor * mean:{signs}.1f}" for mean in means], method


def test_a_study_in_the_default_folder_leaves_the_carried_files_alone(tmp_path: Path) -> None:
    assert Path("results") == Options.results
    own = tmp_path / CARRIED.name
    shutil.copytree(CARRIED / "colored_digits", own / "colored_digits")
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    summary = make_summary_of(datasets.load_benchmark("colored_digits"), "erm")
    write_summary_of(tmp_path, summary)
    assert write_tables(tmp_path) == []
    assert list(pd.read_csv(tmp_path / "best_configs.csv")["method"]) == ["erm"]
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


def test_git_carries_the_exports_and_none_of_a_study_of_the_user() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    ours = ["README.md", *(f"embedded/{name}" for name in ("report.html", "best_configs.csv"))]
    ours += [f"embedded/{name}/table.tex" for name in DATA_SETS]
    ours += [f"embedded/colored_digits/{name}" for name in DRAWN]
    ours += [f"embedded/colored_digits/erm/{name}" for name in ("best_config.yaml", "summary.json")]
    theirs = ["study.yaml", "report.html", "colored_digits/table.csv", "embedded/study.yaml"]
    theirs += [f"embedded/colored_digits/erm/{n}" for n in ("seeds.csv", "curves.csv")]
    asked = [f"results/{name}" for name in (*ours, *theirs)]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "--", *asked],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert set(done.stdout.split()) == {f"results/{name}" for name in theirs}


def test_methods_of_the_tables_exist() -> None:
    for dataset in DATA_SETS:
        methods = set(pd.read_csv(CARRIED / dataset / "table.csv")["method"])
        benchmark = datasets.load_benchmark(dataset)
        assert methods <= set(list_methods())
        for method in methods:
            load_method(method).check_benchmark(benchmark)
