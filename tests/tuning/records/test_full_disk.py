"""The disk of the records gets full, then read-only, then is mended: nothing is lost or failed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import PATIENCE, ROOT, clean_environment, run_tune
from tests.support.undisturbed import STUDY, exported
from tests.support.undisturbed import undisturbed as undisturbed

pytestmark = pytest.mark.study


def fill(folder: Path) -> None:
    """Shrink a file system to what it holds."""
    for _ in range(100):
        found = os.statvfs(folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        if mount("-o", f"remount,size={used}", str(folder)):  # not if more has come meanwhile
            return
    raise AssertionError("the disk never stood still")


def mount(*arguments: str) -> bool:
    return not subprocess.run(["mount", *arguments], capture_output=True).returncode


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("a disk of its own needs Linux and root")
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", str(folder)):
        pytest.skip("this machine does not allow mounts")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
def test_a_study_goes_on_once_there_is_room(disk: Path, undisturbed: Path, tmp_path: Path) -> None:
    arguments = [*STUDY, "--storage", disk / "records", "--results", tmp_path / "results"]
    process = subprocess.Popen(
        [sys.executable, "tune.py", *map(str, arguments)], cwd=ROOT, env=clean_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while process.poll() is None and not list(disk.rglob("rows.json")):
            time.sleep(0.1)
        fill(disk)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 2, out + err
    assert "Traceback" not in err
    assert "cannot read or write in" in err
    assert "run the same command with --resume" in err
    assert mount("-o", "remount,size=1g,ro", str(disk))
    refused = run_tune([*arguments, "--resume"])
    assert refused.code == 2
    assert "Read-only file system" in refused.err
    assert mount("-o", "remount,rw", str(disk))
    assert run_tune([*arguments, "--resume"]).ran_to_end
    results = tmp_path / "results"
    assert exported(results, "erm", "jtt") == exported(undisturbed, "erm", "jtt")
