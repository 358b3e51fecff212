"""Records: whole files only, and damage is nothing worse than absence."""

from pathlib import Path

import pytest
import torch

from datasets.errors import UserError
from tuning.records import (
    MethodRecords,
    RunFolder,
    check_writable,
    differences,
    read_json,
    replacing,
    write_json,
)

ROWS = [{"round": 1}, {"round": 2}]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, object())

    def broken() -> None:
        with replacing(path) as new:
            new.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert read_json(path) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_end_is_written_once_and_a_late_writer_cannot_shorten_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_rows(ROWS, [])
    folder.write_state("last", {"rounds_done": 2})
    folder.write_end({"status": "completed", "rows": ROWS})
    folder.write_end({"status": "failed", "rows": []})
    folder.write_rows(ROWS[:1], [])
    assert folder.end is not None
    assert folder.end["status"] == "completed"
    assert folder.rows() == ROWS
    assert folder.state("last") is None


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"PK\x03\x04 not a state"])
def test_damaged_files_count_as_absent(damage: bytes, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_state("last", {"rounds_done": 1, "x": torch.ones(3)})
    folder.write_rows(ROWS, [])
    (folder.path / "last.pt").write_bytes(damage)
    (folder.path / "rows.json").write_bytes(damage)
    (folder.path / "end.json").write_bytes(damage)
    assert folder.state("last") is None
    assert folder.rows() == []
    assert folder.end is None


def test_states_of_others_are_not_unpickled(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    torch.save({"code": Path}, tmp_path / "last.pt")
    assert folder.state("last") is None


def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_state("last", {"rounds_done": 3, "w": torch.arange(4.0)})
    state = folder.state("last")
    assert state is not None
    assert state["rounds_done"] == 3
    assert torch.equal(state["w"], torch.arange(4.0))


def test_only_readable_runs_are_listed(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path)
    assert records.folders() == []
    records.folder("b").begin({"number": 1})
    records.folder("a").begin({"number": 0})
    (tmp_path / "runs" / "c").mkdir()
    assert [folder.path.name for folder in records.folders()] == ["a", "b"]


def test_differences_are_named() -> None:
    found = differences({"epochs": 3, "search": "tpe"}, {"epochs": 4, "search": "tpe"})
    assert found == ["epochs: the study has 3, this command asks for 4"]


def test_checking_a_folder_makes_nothing(tmp_path: Path) -> None:
    check_writable("--results", tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--results: cannot write"):
        check_writable("--results", tmp_path / "file" / "b")
