"""The results that the repository carries have the form of what a study writes today."""

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
from tools.draw_results import THEMES, draw_picture
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.reporting.export_method import export_method
from tuning.reporting.tables import write_tables

CARRIED = ROOT / "results" / "embedded"
DATA_SETS = sorted(path.parent.name for path in CARRIED.glob("*/table.csv"))
DRAWN = {f"methods{suffix}.svg" for suffix in THEMES}
REMEDY = "the form of exports has changed: run `make results`, or export the records again"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of studies of the same data sets, as they are written today."""
    results = tmp_path_factory.mktemp("results")
    for name in DATA_SETS:
        benchmark = datasets.load_benchmark(name)
        for method in ("first", "second"):
            write_summary_of(results, make_summary_of(benchmark, method, seeds=3, seed=0))
    write_tables(results)
    return results


def test_the_embedded_data_sets_are_carried() -> None:
    assert {"colored_digits", "two_digits"} <= set(DATA_SETS)


def test_tables_have_the_columns_that_a_study_writes(written: Path) -> None:
    tables = {path.relative_to(written) for path in written.rglob("*.csv")}
    assert tables == {path.relative_to(CARRIED) for path in CARRIED.glob("*/table.csv")} | {
        path.relative_to(CARRIED) for path in CARRIED.glob("*.csv")
    }
    for path in tables:
        expected = list(pd.read_csv(written / path).columns)
        assert list(pd.read_csv(CARRIED / path).columns) == expected, f"{path}: {REMEDY}"


def test_every_table_is_carried_in_all_forms(written: Path) -> None:
    kinds = {".csv", ".md", ".tex"}
    expected = {p.relative_to(written) for p in written.rglob("*") if p.suffix in kinds}
    found = {p.relative_to(CARRIED) for p in CARRIED.rglob("*") if p.suffix in kinds}
    own = {"trials.csv", "seeds.csv", "curves.csv"}  # where `make results` was run
    assert {path for path in found if path.name not in own} == expected


@pytest.mark.parametrize("dataset", DATA_SETS)
def test_methods_have_equal_budgets_and_five_seeds(dataset: str) -> None:
    table = pd.read_csv(CARRIED / dataset / "table.csv")
    assert table["complete"].all()
    assert set(table["seeds"]) == {5}
    for column in ("search", "scheduler", "search_seeds", "trials", "selection"):
        assert table[column].nunique() == 1, column
    folders = {path.parent.name for path in (CARRIED / dataset).glob("*/best_config.yaml")}
    assert folders == set(table["method"])
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
    ours += [f"embedded/colored_digits/{name}" for name in (*DRAWN, "erm/best_config.yaml")]
    theirs = ["study.yaml", "report.html", "colored_digits/table.csv", "embedded/study.yaml"]
    theirs += [f"embedded/colored_digits/erm/{n}" for n in ("seeds.csv", "summary.json")]
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
