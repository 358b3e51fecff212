"""Records: whole files only, and damage is nothing worse than absence."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.files import atomic_write
from core.training.run_state import RunState
from tests.support.epoch_rows import make_row
from tests.support.run_records import define_study, describe_run, end_of, folder_of
from tuning.records.json_files import read_json, write_json
from tuning.records.local_storage import LocalStorage
from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import check_writable
from tuning.records.run_data import Confirmation, Metrics, RunEnd, TrialStatus
from tuning.records.run_record import RunRecord
from tuning.records.storage import StorageError
from tuning.records.version import RECORD_VERSION

ROWS = (make_row(1), make_row(2))
AUDIT: list[Metrics] = [{"delta_m": 1.0}, {"delta_m": 2.0}]
COMPLETED = RunEnd(TrialStatus.COMPLETED, "", ROWS)
RUN = describe_run(0)


def state(epochs_done: int) -> RunState:
    model = {"w": torch.arange(4.0)}
    return RunState(epochs_done, model, {}, None, {}, torch.ones(1, dtype=torch.int64), 0)


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
    folder.write_epoch(ROWS, state=state(2))
    folder.write_end(COMPLETED)
    folder.write_end(RunEnd(TrialStatus.FAILED, "", []))
    folder.write_epoch(ROWS[:1])
    assert end_of(folder).status == "completed"
    assert folder.read_rows() == ROWS
    assert folder.read_state("last") is None


def test_a_late_copy_of_a_run_that_went_on_elsewhere_changes_nothing(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path / "run")
    folder.write_epoch(ROWS, AUDIT, state(len(ROWS)))
    folder.write_epoch(ROWS[:1], AUDIT[:1], state(1))
    assert folder.read_rows() == ROWS
    assert folder.read_audit() == AUDIT
    found = folder.read_state("last")
    assert found is not None
    assert found.epochs_done == len(ROWS)
    folder.write_end(COMPLETED)
    left = sorted(path.name for path in folder_of(folder).iterdir())
    folder.write_epoch([*ROWS, *ROWS], AUDIT, state(2 * len(ROWS)), is_best=True)
    assert sorted(path.name for path in folder_of(folder).iterdir()) == left


class CountingStorage(LocalStorage):
    """Counts the requests that a bucket would answer one after another."""

    reads = 0

    def read_bytes(self, name: str) -> bytes | None:
        self.reads += 1
        return super().read_bytes(name)


def test_an_epoch_is_written_after_one_check(tmp_path: Path) -> None:
    storage = CountingStorage(tmp_path)
    RunRecord(storage).write_epoch(ROWS, AUDIT, state(2), is_best=True)
    assert storage.reads == 2  # has it ended, and has it more epochs
    assert storage.list_names() == ["audit.json", "best.pt", "last.pt", "rows.json"]


class MeetingStorage(LocalStorage):
    """Answers a request only once another is made at the same time, as a slow bucket shows."""

    def __init__(self, path: Path, barrier: Barrier) -> None:
        super().__init__(path)
        self.barrier = barrier

    def read_bytes(self, name: str) -> bytes | None:
        self.barrier.wait(timeout=60)
        return super().read_bytes(name)

    def __truediv__(self, name: str) -> "MeetingStorage":
        return MeetingStorage(self.path / name, self.barrier)


def test_descriptions_are_read_at_the_same_time(tmp_path: Path) -> None:
    written = MethodRecords(tmp_path)
    for number in range(4):
        written.open_run(str(number)).write_description(describe_run(number))
    records = MethodRecords(MeetingStorage(tmp_path, Barrier(2)))
    assert [description.number for _, description in records.read_runs()] == list(range(4))


def test_a_storage_that_does_not_answer_is_no_damaged_state(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path)
    (tmp_path / "last.pt").symlink_to(tmp_path / "last.pt")  # fails to open, as a lost mount does
    with pytest.raises(StorageError, match="cannot read or write"):
        folder.read_state("last")


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"{}", b"[]", b"7", b"\xff\xfe", b"PK\x03\x04 not a state"]
)
def test_damaged_files_count_as_absent(damage: bytes, tmp_path: Path) -> None:
    folder = RunRecord(tmp_path / "run")
    folder.write_epoch(ROWS[:1], state=state(1))
    for name in ("last.pt", "rows.json", "audit.json", "end.json", "run.json"):
        (folder_of(folder) / name).write_bytes(damage)
    assert folder.read_state("last") is None
    assert folder.read_rows() == ()
    assert folder.read_audit() == []
    assert folder.read_end() is None
    assert folder.read_description() is None


def test_a_state_with_a_flipped_bit_counts_as_absent(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path)
    folder.write_epoch(ROWS[:1], state=state(1))
    data = bytearray((tmp_path / "last.pt").read_bytes())
    offset = data.index(torch.arange(4.0).numpy().tobytes())
    data[offset + 5] ^= 1
    (tmp_path / "last.pt").write_bytes(data)
    assert folder.read_state("last") is None


def test_states_of_others_are_not_unpickled(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path)
    torch.save({**state(1).as_dict(), "code": Path}, tmp_path / "last.pt")
    assert folder.read_state("last") is None


def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    folder = RunRecord(tmp_path)
    folder.write_epoch(ROWS, state=state(3))
    found = folder.read_state("last")
    assert isinstance(found, RunState)
    assert found.epochs_done == 3
    assert torch.equal(found.model["w"], torch.arange(4.0))


def test_runs_without_their_definition_are_refused(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path)
    records.check_readable()
    records.open_run("a").write_description(RUN)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json.*missing or damaged"):
        records.check_readable()


def test_only_readable_runs_are_listed(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path)
    assert records.list_runs() == []
    records.open_run("b").write_description(describe_run(1))
    records.open_run("a").write_description(RUN)
    (tmp_path / "runs" / "c").mkdir()
    assert [folder.name for folder in records.list_runs()] == ["a", "b"]


def test_differences_are_named() -> None:
    stored = define_study(epochs=3, search="tpe")
    found = stored.describe_differences(define_study(epochs=4, search="tpe"))
    assert found == ["epochs: the study has 3, this command asks for 4"]
    found = define_study(epochs=None).describe_differences(define_study(epochs=5))
    assert found == ["epochs: the study has the data set's default, this command asks for 5"]


def test_differences_name_the_keys_that_differ_alone() -> None:
    stored, asked = (
        define_study(pinned={"lr": 0.1, "clip": "shared"}),
        define_study(pinned={"lr": 0.2}),
    )
    assert stored.describe_differences(asked) == [
        "set.clip: the study has 'shared', this command asks for none",
        "set.lr: the study has 0.1, this command asks for 0.2",
    ]
    longer = replace(stored.training_config, epochs=7)
    assert len(stored.describe_differences(replace(stored, training_config=longer))) == 1


def test_a_definition_is_stored_and_read_without_loss(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path)
    assert records.read_definition() is None
    for definition in (define_study(), define_study(environment=None, pinned={"lr": 0.1})):
        records.write_definition(definition)
        assert records.read_definition() == definition
        assert definition.describe_differences(definition) == []


def test_checking_a_folder_makes_nothing(tmp_path: Path) -> None:
    check_writable("--results", tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--results: cannot write"):
        check_writable("--results", tmp_path / "file" / "b")


def test_records_of_another_version_are_refused_in_one_line(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path)
    records.write_definition(define_study())
    run = records.open_run("a")
    run.write_description(RUN)
    assert run.read_description() == RUN
    for path, read in (
        (tmp_path / "study.json", records.check_readable),
        (folder_of(run) / "run.json", records.list_runs),
    ):
        data = json.loads(path.read_text())
        for version in (None, RECORD_VERSION + 1):
            changed = {name: value for name, value in data.items() if name != "record_version"}
            write_json(path, changed | ({} if version is None else {"record_version": version}))
            with pytest.raises(UserError, match=f"record version .*expected {RECORD_VERSION}") as e:
                read()
            assert len(str(e.value).splitlines()) == 1
            assert "choose another --results folder, or delete" in str(e.value)
        write_json(path, data)


@given(
    status=st.sampled_from(TrialStatus), reason=st.text(max_size=20),
    metrics=st.dictionaries(st.text(max_size=5), st.floats(0, 1), max_size=3),
    epochs=st.integers(0, 3), confirmed=st.booleans(),
)  # fmt: skip
def test_ends_survive_json(
    status: TrialStatus, reason: str, metrics: dict[str, float], epochs: int, confirmed: bool
) -> None:
    rows = tuple(make_row(i + 1, worst_group_accuracy=i / 9) for i in range(epochs))
    result = Confirmation(epochs, metrics, metrics) if confirmed else None
    end = RunEnd(status, reason, rows, "host", 7, confirmed, result)
    assert RunEnd.from_dict(json.loads(json.dumps(end.as_dict()))) == end
