"""A damaged, half-written or foreign record is named and left out, the rest exported."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.support.run_records import folder_of
from tests.tuning.reporting.test_export import CONTEXT, add_run
from tuning.cli.main import main
from tuning.records.method_records import MethodRecords
from tuning.reporting.damage.find_damage import find_damaged_records
from tuning.reporting.export_method import export_method
from tuning.reporting.recorded_study import read_study
from tuning.reporting.summary import make_summary


def make_damaged_records(folder: Path) -> tuple[MethodRecords, list[str]]:
    """Return records of which one trial is whole, and the start of a line for each damage."""
    records = MethodRecords(folder / "d" / "erm")
    records.write_context(CONTEXT)
    runs = [add_run(records, "search", i, 0.1 + i / 10, 0.5, 0.6) for i in range(6)]
    folders = [folder_of(run) for run in runs]
    (folders[1] / "run.json").write_text('{"key": ', encoding="utf-8")
    (folders[2] / "run.json").unlink()
    foreign = json.loads((folders[3] / "run.json").read_text(encoding="utf-8"))
    text = json.dumps({**foreign, "record_version": 99})
    (folders[3] / "run.json").write_text(text, encoding="utf-8")
    (folders[4] / "end.json").write_bytes(b"\xff\x00")
    (folders[5] / "run.json").write_text("[1, 2]", encoding="utf-8")
    (folders[0].parent / "notes.txt").write_text("mine", encoding="utf-8")
    return records, [
        f"{folders[1]}/run.json: not valid JSON",
        f"{folders[2]}/run.json: missing",
        f"{folders[3]}/run.json: has record version 99",
        f"{folders[4]}/end.json: not valid JSON",
        f"{folders[5]}/run.json: not a run's description",
        f"{folders[0].parent}/notes.txt/run.json: missing",
    ]


def test_damaged_records_are_named_and_the_rest_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, expected = make_damaged_records(tmp_path / "records")
    lines = [str(file) for file in find_damaged_records(records)]
    assert len(lines) == len(expected)
    for start in expected:
        assert any(line.startswith(f"left out: {start}") for line in lines), start
    export_method(records, tmp_path / "results")
    trials = pd.read_csv(tmp_path / "results" / "d" / "erm" / "trials.csv")
    assert trials.trial.tolist() == [0, 4]
    assert trials.status.tolist() == ["completed", "unfinished"]
    rule = "validation_average_accuracy"
    given = ["--results", str(tmp_path / "results"), "--storage", str(tmp_path / "records")]
    assert main(["export", *given, "--select", rule]) == 1
    assert capsys.readouterr().err.count("left out: ") == len(expected)


@pytest.mark.parametrize(
    ("place", "value", "file"),
    [
        (("rows", 0, "seconds"), "x", "end.json"),
        (("rows", 0, "epoch"), 1.5, "end.json"),
        (("rows", 0, "validation", "worst_group_accuracy"), [0.5, "x"], "end.json"),
        (("confirmation", "test", "worst_group_accuracy"), "x", "end.json"),
        (("confirmation", "validation", "worst_group_accuracy"), [0.5], "end.json"),
        (("confirmation", "test", "group_accuracy"), [0.5], "end.json"),
        (("number",), "0", "run.json"),
        (("key", "recipe"), "x", "run.json"),
        (("trials",), "six", "export.json"),
        (("seeds",), True, "export.json"),
        (("reported_metrics",), [], "export.json"),
        (("higher_is_better",), {}, "export.json"),
        (("environment", "threads"), "one", "export.json"),
    ],
)
def test_a_value_of_another_type_is_named_and_left_out(
    place: tuple[str | int, ...], value: object, file: str, tmp_path: Path
) -> None:
    records = MethodRecords(tmp_path / "d" / "erm")
    records.write_context(CONTEXT)
    add_run(records, "search", 0, 0.1, 0.5)
    path = folder_of(add_run(records, "confirm", 0, 0.1, 0.5)) / file
    path = records_file if (records_file := tmp_path / "d" / "erm" / file).exists() else path
    content = json.loads(path.read_text(encoding="utf-8"))
    if "group_accuracy" in place:
        content["confirmation"]["validation"]["group_accuracy"] = [0.5, 0.6]
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [found.file for found in find_damaged_records(records)] == [str(path)]
    study = read_study(records)
    if file == "export.json":
        assert study is None
    else:
        assert study is not None
        assert make_summary(study).seeds == 0


def test_whole_records_have_no_damage(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path / "d" / "erm")
    records.write_context(CONTEXT)
    add_run(records, "search", 0, 0.1, 0.5)
    assert find_damaged_records(records) == []


def test_a_damaged_summary_is_named_and_the_others_tabulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("erm", "rwg", "dro"):
        records = MethodRecords(tmp_path / "records" / "d" / method)
        records.write_context(replace(CONTEXT, method=method))
        add_run(records, "search", 0, 0.1, 0.5)
        add_run(records, "confirm", 0, 0.1, 0.5)
        export_method(records, tmp_path / "results")
    half, other = (tmp_path / "results" / "d" / m / "summary.json" for m in ("dro", "rwg"))
    half.write_text(half.read_text(encoding="utf-8")[:50], encoding="utf-8")
    other.write_text('{"metrics": {}, "record_version": 1}', encoding="utf-8")
    assert main(["export", "--results", str(tmp_path / "results")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in errors] == [str(half), str(other)]
    table = pd.read_csv(tmp_path / "results" / "d" / "table.csv")
    assert len(table) == 1
