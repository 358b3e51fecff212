"""Data below a read-only root: nothing is written there, and the reason for a refusal is right."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets import prepare
from tests.support import real_data
from tests.support.comment_files import write_original
from tests.support.dense_files import write_dense
from tests.support.image_files import write_birds
from tests.support.read_only import run_read_only

pytestmark = pytest.mark.slow


def write_comments(root: Path) -> None:
    write_original(root)
    real_data.vocabulary(root)


def write_frames(root: Path) -> None:
    write_dense(root, "cityscapes", train=4, val=2)


DATA: dict[str, Callable[[Path], None]] = {
    "waterbirds": write_birds,
    "civilcomments": write_comments,
    "cityscapes": write_frames,
}


def run(root: Path, *arguments: str, cache: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "datasets.prepare", *arguments, "--data-root", root]
    return run_read_only(root, command, {"EVENHAND_CACHE": cache})


def list_files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize("is_prepared", [True, False])
@pytest.mark.parametrize("name", DATA)
def test_complete_data_are_cached_elsewhere(tmp_path: Path, name: str, is_prepared: bool) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    DATA[name](root)
    if is_prepared:
        assert prepare.main([name, "--data-root", str(root), "--no-cache"]) == 0
    before = list_files(root)
    ended = run(root, name, cache=str(cache))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{name}: complete ({root / name})\n"
    needs_table = not is_prepared and name != "cityscapes"
    assert ("its table is made anew in each run" in ended.stderr) == needs_table
    assert "free some space" not in ended.stderr
    assert list_files(root) == before
    assert len(list(cache.glob(f"{name}/*/manifest.json"))) == 1
    assert run(root, name, "--check", cache=str(cache)).returncode == 0
    training = [sys.executable, "-m", "datasets.describe", name, "--data-root", root]
    described = run_read_only(root, training, {"EVENHAND_CACHE": str(cache)})
    assert described.returncode == 0, described.stderr
    assert "Hash:" in described.stdout
    assert "not known yet" not in described.stdout
    assert list_files(root) == before


@pytest.mark.parametrize("name", DATA)
def test_a_refusal_gives_the_reason(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    DATA[name](root)
    ended = run(root, name)
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    cache = root / ".cache" / name
    assert f"{name}: {cache}: cannot be written (Read-only file system" in line
    assert line.endswith(
        "make it writable, or set EVENHAND_CACHE to a writable folder on a disk with free space"
    )
    assert run(root, name, "--no-cache").returncode == 0


def test_missing_data_are_named_and_a_download_says_where_it_cannot_be(tmp_path: Path) -> None:
    ended = run(tmp_path, "waterbirds")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"{tmp_path / 'waterbirds'}: missing; put the data there" in ended.stderr
    ended = run(tmp_path, "waterbirds", "--download", "--source", "http://127.0.0.1:9/x")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: waterbirds: {tmp_path}: cannot be written (Read-only")
    assert ended.stderr.endswith("make it writable, or choose another --data-root\n")
    assert os.listdir(tmp_path) == []
