"""The lock of a folder: one holder at a time, and no trace where nothing was stored."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.command import ROOT
from tuning.records.lock import HOLDER_NAME, LOCK_NAME, exclusive_lock
from tuning.records.open_storage import open_storage

# Takes the lock again and again; each holder makes a file that no other holder may find.
CONTENDER = """
import os, sys
from common.errors import UserError
from tuning.records.lock import exclusive_lock
from tuning.records.open_storage import open_storage
folder, mark, wanted = open_storage(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
held = 0
while held < wanted:
    try:
        with exclusive_lock(folder):
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            os.unlink(mark)
            held += 1
    except UserError:  # another holds it
        pass
"""


def test_no_two_processes_hold_it(tmp_path: Path) -> None:
    given = [str(tmp_path / "records" / "d" / "erm"), str(tmp_path / "mark"), "150"]
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, *given],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in contenders:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in contenders:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=120)[1] for process in contenders]
    assert [process.returncode for process in contenders] == [0] * 4, errors


def test_only_folders_that_it_made_are_removed(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "empty"
    own.mkdir(parents=True)
    with exclusive_lock(open_storage(own / "d" / "erm")):
        assert (own / "d" / "erm" / LOCK_NAME).exists()
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["empty"]
    with exclusive_lock(open_storage(own)):
        pass
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["empty"]


def test_a_folder_with_records_keeps_its_lock(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "erm")
    with exclusive_lock(storage):
        storage.write_bytes("study.json", b"{}")
        with pytest.raises(UserError, match="another command"), exclusive_lock(storage):
            raise AssertionError("two holders")
    assert sorted(path.name for path in (tmp_path / "erm").iterdir()) == [
        HOLDER_NAME,
        LOCK_NAME,
        "study.json",
    ]
    with exclusive_lock(storage):
        pass
