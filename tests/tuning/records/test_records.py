"""Records: whole files only, and damage is nothing worse than absence."""

from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from tuning.records.records import (
    STATE,
    MethodRecords,
    RunRecord,
    check_writable,
    differences,
    read_json,
    write_json,
)
from tuning.records.storage import StorageError, atomic_write

ROWS = [{"epoch": 1}, {"epoch": 2}]
COMPLETED = {"status": "completed", "reason": "", "rows": ROWS}
RUN = {"phase": "search", "number": 0, "config": {}, "key": {}}


def state(epochs_done: int) -> dict[str, Any]:
    return {**dict.fromkeys(STATE), "epochs_done": epochs_done, "model": {"w": torch.arange(4.0)}}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, object())

    def broken() -> None:
        with atomic_write(path) as new:
            new.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert read_json(path) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_end_is_written_once_and_a_late_writer_cannot_shorten_it(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path / "run")
    folder.write_rows(ROWS, [])
    folder.write_state("last", state(2))
    folder.write_end(COMPLETED)
    folder.write_end({**COMPLETED, "status": "failed", "rows": []})
    folder.write_rows(ROWS[:1], [])
    assert folder.end is not None
    assert folder.end["status"] == "completed"
    assert folder.rows() == ROWS
    assert folder.state("last") is None


def test_a_late_copy_of_a_run_that_went_on_elsewhere_changes_nothing(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path / "run")
    folder.write_rows(ROWS, ROWS)
    folder.write_state("last", state(len(ROWS)))
    folder.write_rows(ROWS[:1], ROWS[:1])
    folder.write_state("last", state(1))
    assert folder.rows() == folder.audit() == ROWS
    found = folder.state("last")
    assert found is not None
    assert found["epochs_done"] == len(ROWS)
    folder.write_end(COMPLETED)
    left = sorted(path.name for path in folder.path.iterdir())
    folder.write_rows([*ROWS, *ROWS], [])
    for name in ("last", "best"):
        folder.write_state(name, state(2 * len(ROWS)))
    assert sorted(path.name for path in folder.path.iterdir()) == left


def test_a_place_that_does_not_answer_is_no_damaged_state(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path)
    (tmp_path / "last.pt").symlink_to(tmp_path / "last.pt")  # fails to open, as a lost mount does
    with pytest.raises(StorageError, match="cannot read or write"):
        folder.state("last")


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"{}", b"[]", b"7", b"\xff\xfe", b"PK\x03\x04 not a state"]
)
def test_damaged_files_count_as_absent(damage: bytes, tmp_path: Path) -> None:
    folder = RunRecord(tmp_path / "run")
    folder.write_state("last", state(1))
    for name in ("last.pt", "rows.json", "audit.json", "end.json", "run.json"):
        (folder.path / name).write_bytes(damage)
    assert folder.state("last") is None
    assert folder.rows() == []
    assert folder.audit() == []
    assert folder.end is None
    assert folder.description is None


def test_a_state_with_a_flipped_bit_counts_as_absent(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path)
    folder.write_state("last", state(1))
    data = bytearray((tmp_path / "last.pt").read_bytes())
    place = data.index(torch.arange(4.0).numpy().tobytes())
    data[place + 5] ^= 1
    (tmp_path / "last.pt").write_bytes(data)
    assert folder.state("last") is None


def test_states_of_others_are_not_unpickled(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path)
    torch.save({**state(1), "code": Path}, tmp_path / "last.pt")
    assert folder.state("last") is None


def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path)
    folder.write_state("last", state(3))
    found = folder.state("last")
    assert found is not None
    assert found["epochs_done"] == 3
    assert torch.equal(found["model"]["w"], torch.arange(4.0))


def test_runs_without_their_definition_are_refused(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path)
    records.check_readable()
    records.folder("a").begin(RUN)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json.*missing or damaged"):
        records.check_readable()


def test_only_readable_runs_are_listed(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path)
    assert records.folders() == []
    records.folder("b").begin({**RUN, "number": 1})
    records.folder("a").begin(RUN)
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
