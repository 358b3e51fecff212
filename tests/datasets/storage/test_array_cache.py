"""The cache: built once, shared, rebuilt when something changed, never half there."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from datasets.storage.array_cache import (
    ArrayWriter,
    CachedArrays,
    cache_folder,
    find_cache_problems,
    load_or_build,
)

ROOT = Path(__file__).resolve().parents[3]


class Building:
    """Builds a small cache and counts how often."""

    def __init__(self, root: Path) -> None:
        self.root, self.times, self.value = root, 0, 7
        (root / "source.txt").write_text("one")

    def __call__(self, writer: ArrayWriter) -> None:
        self.times += 1
        writer.create_array("pixels", (3, 4), np.uint8)[:] = self.value
        writer.write_array("empty", np.zeros((0, 3), dtype=np.float32))
        writer.write_array("y", np.array([1, 0, 1]))

    def get(self, **settings: int) -> CachedArrays:
        return load_or_build("things", self.root, [self.root / "source.txt"], settings, self)

    @property
    def target(self) -> Path:
        folders = [p for p in cache_folder("things", self.root).iterdir() if p.is_dir()]
        assert len(folders) == 1
        return folders[0]


@pytest.fixture
def building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Building:
    monkeypatch.delenv("EVENHAND_CACHE", raising=False)
    return Building(tmp_path)


def test_is_built_once_and_read_again(building: Building) -> None:
    first, second = building.get(), building.get()
    assert building.times == 1
    assert first.hash == second.hash
    assert len(first.hash) == 16
    for found in (first, second):
        assert torch.equal(found.arrays["pixels"], torch.full((3, 4), 7, dtype=torch.uint8))
        assert found.arrays["empty"].shape == (0, 3)
        assert found.arrays["y"].tolist() == [1, 0, 1]
    first.arrays["pixels"][0] = 9  # stays in the process
    assert building.get().arrays["pixels"].max() == 7
    assert find_cache_problems(building.target, full=True) == []


def test_another_source_or_setting_is_another_cache(building: Building) -> None:
    first = building.get()
    assert building.get(length=3).hash == first.hash  # of content alone
    assert building.times == 2
    (building.root / "source.txt").write_text("another")
    building.value = 8
    assert building.get().hash != first.hash
    assert building.times == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "pixels.npy").unlink(),
        lambda folder: os.truncate(folder / "pixels.npy", 130),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
    ],
    ids=["missing", "truncated", "no manifest", "half a manifest", "another manifest"],
)
def test_what_is_damaged_is_built_again(
    building: Building, spoil: Callable[[Path], object]
) -> None:
    first = building.get()
    spoil(building.target)
    assert find_cache_problems(building.target)
    assert building.get().hash == first.hash
    assert building.times == 2
    assert find_cache_problems(building.target, full=True) == []


def test_a_flipped_bit_is_found_by_the_full_check(building: Building) -> None:
    building.get()
    path = building.target / "pixels.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert find_cache_problems(building.target) == []
    assert find_cache_problems(building.target, full=True) == [f"{path}: checksum differs"]


def test_a_failed_build_leaves_nothing(building: Building) -> None:
    def fail(writer: ArrayWriter) -> None:
        writer.write_array("y", np.zeros(3))
        raise UserError("row 3 is damaged")

    with pytest.raises(UserError, match="row 3"):
        load_or_build("things", building.root, [], {}, fail)
    assert [path.suffix for path in cache_folder("things", building.root).iterdir()] in (
        [],
        [".lock"],
    )


def test_what_a_killed_process_left_is_removed(building: Building) -> None:
    building.get()
    target = building.target
    (target / "pixels.npy").unlink()
    left = target.parent / f".{target.name}.99999999"
    left.mkdir()
    (left / "half.npy").write_bytes(b"x")
    building.get()
    assert not left.exists()


def test_a_missing_source_is_named(building: Building) -> None:
    with pytest.raises(UserError, match=r"nowhere.jpg: missing"):
        load_or_build("things", building.root, [building.root / "nowhere.jpg"], {}, building)


def test_elsewhere(building: Building, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENHAND_CACHE", str(building.root / "local"))
    building.get()
    assert (building.root / "local" / "things").is_dir()
    assert not (building.root / ".cache").exists()


def test_a_file_in_place_of_the_folder_is_named(
    building: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENHAND_CACHE", __file__)
    with pytest.raises(UserError, match=r"cannot be made .*; set EVENHAND_CACHE to a writable"):
        building.get()


def test_a_full_disk_is_one_error_and_leaves_nothing(building: Building) -> None:
    """A limit on the size of files simulates a full disk: the system call fails in the same way."""

    def large(writer: ArrayWriter) -> None:
        writer.create_array("pixels", (50_000_000,), np.uint8)[:] = 1

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"the disk is full.*EVENHAND_CACHE") as caught:
            load_or_build("things", building.root, [], {}, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert not [path for path in cache_folder("things", building.root).iterdir() if path.is_dir()]


BUILDER = """
import sys, time
from pathlib import Path
import numpy as np
from datasets.storage.array_cache import load_or_build
root = Path(sys.argv[1])
def build(writer):
    with (root / "built.txt").open("a") as file:
        file.write("x")
    time.sleep(2.5)
    writer.write_array("y", np.arange(5))
load_or_build("things", root, [root / "source.txt"], {}, build)
"""


@pytest.mark.medium
def test_of_two_processes_one_builds_and_the_other_says_that_it_waits(
    building: Building, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", BUILDER, str(building.root)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not (building.root / "built.txt").exists() and time.monotonic() < end:
            time.sleep(0.02)
        found = building.get()
        assert process.wait(timeout=60) == 0
    assert building.times == 0
    assert (building.root / "built.txt").read_text() == "x"
    assert found.arrays["y"].tolist() == [0, 1, 2, 3, 4]
    assert "another process prepares it; waiting for it" in capfd.readouterr().err
