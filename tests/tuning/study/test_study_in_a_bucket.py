"""A study whose records lie in an object store: killed, resumed, and equal to one in a folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.command import ROOT, clean_environment, list_descendants, run_tune
from tests.support.undisturbed import ERM, exported
from tests.support.undisturbed import undisturbed as undisturbed
from tests.tuning.records.test_storage import s3 as s3
from tuning.cli.main import main
from tuning.records import lock
from tuning.records.lock import LOCK_NAME, LockHolder, exclusive_lock
from tuning.records.object_storage import ObjectStorage
from tuning.records.open_storage import open_storage

pytestmark = pytest.mark.study


@pytest.fixture
def bucket(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """An empty bucket, reached as users reach theirs: by the environment."""
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{s3}"), ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    found = open_storage(f"s3://{tmp_path.name.replace('_', '-')}?allow_bucket_creation=true")
    assert isinstance(found, ObjectStorage)
    found.store.create_dir(found.path)
    return found


def ended(runs: ObjectStorage) -> dict[str, bytes]:
    return {n: data for n in runs.list_names() if (data := (runs / n).read_bytes("end.json"))}


@pytest.mark.slow
def test_killed_and_resumed(bucket: ObjectStorage, undisturbed: Path, tmp_path: Path) -> None:
    url = f"s3://{bucket.path}/records"
    results = tmp_path / "results"
    arguments = [*ERM, "--storage", url, "--results", str(results)]
    process = subprocess.Popen(
        [sys.executable, "tune.py", *arguments], cwd=ROOT, env=clean_environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    runs = bucket / "records/colored_digits/erm/runs"
    deadline = time.monotonic() + 150
    while process.poll() is None and time.monotonic() < deadline and not ended(runs):
        time.sleep(0.1)
    assert process.poll() is None
    family = list_descendants(process.pid)
    for number in family:
        os.kill(number, signal.SIGSTOP)
    with (
        pytest.raises(UserError) as second,
        exclusive_lock(open_storage(f"{url}/colored_digits/erm")),
    ):
        pass  # a lock in the bucket, not on this machine
    assert f"another command is running the study in '{url}" in str(second.value)
    assert f"process {process.pid} on {socket.gethostname()}" in str(second.value)
    for number in family:
        os.kill(number, signal.SIGKILL)
    process.wait()
    before = ended(runs)
    assert before

    done = run_tune([*arguments, "--resume"])
    assert done.ran_to_end, done.err
    after = ended(runs)
    assert before.items() <= after.items()
    assert len(after) == 6
    for name in runs.list_names():
        assert not {"last.pt", "best.pt", "rows.json"} & set((runs / name).list_names())
    assert not bucket.exists(f"records/colored_digits/erm/{LOCK_NAME}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results"]  # no records beside them

    assert exported(results, "erm") == exported(undisturbed, "erm")


def test_a_lock_is_held_by_one_and_ends_with_its_holder(
    bucket: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = bucket / "locked"
    with (
        exclusive_lock(where),
        pytest.raises(UserError, match="another command"),
        exclusive_lock(where),
    ):
        pass
    assert where.list_names() == []
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    mine = LockHolder(socket.gethostname(), int(gone.stdout), "t")
    lock._write_heartbeat(where, mine)
    with exclusive_lock(where):  # its process has ended
        pass
    elsewhere = replace(mine, host="elsewhere")
    lock._write_heartbeat(where, elsewhere)
    with pytest.raises(UserError, match="on elsewhere"), exclusive_lock(where):
        pass
    reused = replace(mine, process=os.getpid())  # by another process, after a restart
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.0)
    for holder in (elsewhere, reused):  # no sign of life for long
        lock._write_heartbeat(where, holder)
        with exclusive_lock(where):
            pass
    where.write_bytes(LOCK_NAME, b"damaged")
    with exclusive_lock(where):
        pass


def test_a_holder_gives_signs_of_life(
    bucket: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    where = bucket / "beating"
    with exclusive_lock(where):
        first = where.read_bytes(LOCK_NAME)
        time.sleep(0.5)
        assert where.read_bytes(LOCK_NAME) != first


def test_a_url_with_credentials_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = str(folder / "results")
    assert main([*ERM, "--storage", "s3://me:secret@bucket/x", "--results", results]) == 2
    told = capsys.readouterr().err
    assert "without credentials" in told
    assert "secret" not in told
    assert not list(folder.iterdir())
