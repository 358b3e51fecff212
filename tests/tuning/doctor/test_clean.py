"""``tune.py clean``: it lists what nothing needs, and removes that alone, on ``--yes`` alone."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import datasets
from datasets.on_disk import OnDisk
from tests.support.image_files import write_birds
from tests.tuning.reporting.test_export import add_run
from tuning.cli.main import main
from tuning.cluster import ray_private
from tuning.cluster.connection import SESSION_MARK
from tuning.doctor import leftovers
from tuning.records.lock import exclusive_lock
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import TrialStatus

LONG_AGO = time.time() - 10 * 24 * 3600


def make_old(path: Path) -> None:
    for one in (*path.rglob("*"), path):
        os.utime(one, (LONG_AGO, LONG_AGO))


@pytest.fixture
def ended_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def machine(
    tmp_path: Path, ended_process: int, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[Path]]:
    """A machine with something to remove of each kind, and its like that is in use."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(leftovers, "find_temporary_folder", lambda: str(tmp_path / "ray"))
    records = MethodRecords(tmp_path / "r.records" / "d" / "erm")
    ended = add_run(records, "search", 0, 0.1, 0.5)
    running = add_run(records, "search", 1, 0.2, 0.5, status=TrialStatus.UNFINISHED)
    removed: list[Path] = []
    kept = [Path(running.location) / "rows.json"]
    removed.extend(Path(ended.location) / name for name in ("last.pt", "rows.json"))
    kept += [Path(ended.location) / name for name in ("run.json", "end.json")]
    kept.append(Path(running.location) / "last.pt")
    results = tmp_path / "r" / "d"
    removed.append(results / ".new-table.csv.0123abcd")
    removed.append(results / "erm" / "predictions" / ".new-seed_0.parquet.89abcdef")
    new = results / "erm" / ".new-summary.json.0123abcd"
    kept += [results / "table.csv", results / "erm" / "summary.json", new]
    kept += [results / ".new-photos" / "a.jpg", results / "erm" / ".new-notes.txt"]
    kept.append(tmp_path / "r" / "thesis" / ".new-chapter.tex.0123abcd")  # of no study
    cache = tmp_path / "data" / ".cache"
    write_birds(tmp_path / "data")
    benchmark = datasets.load_benchmark("waterbirds", str(tmp_path / "data"))
    assert isinstance(benchmark, OnDisk)
    benchmark.build_cache()
    kept.append(benchmark.cache_path / "manifest.json")
    removed.append(cache / benchmark.cache_name / "0123456789abcdef" / "x.npy")
    kept.append(cache / "other" / "0123456789abcdef" / "x.npy")
    removed.append(tmp_path / "tmp" / f"evenhand-{ended_process}-abc_1234" / "state")
    kept.append(tmp_path / "tmp" / f"evenhand-{os.getpid()}-abc_1234" / "state")
    kept.append(tmp_path / "tmp" / "evenhand-12345678" / "state")
    session = "session_2026-11-01_10-00-00_123456"
    removed.append(tmp_path / "ray" / f"{session}_{ended_process}" / SESSION_MARK)
    kept.append(tmp_path / "ray" / f"{session}_{os.getpid()}" / SESSION_MARK)
    kept.append(tmp_path / "ray" / f"session_2026-11-02_10-00-00_123456_{ended_process}" / "log")
    for path in (*removed, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(b"x" * 1000)
    for name in ("r", "r.records", "tmp", "ray", "data/.cache"):  # not the data, whose times count
        make_old(tmp_path / name)
    os.utime(new)  # still written
    return {"removed": removed, "kept": kept}


def clean(folder: Path, *arguments: str) -> int:
    return main(
        ["clean", "--results", str(folder / "r"), "--data-root", str(folder / "data"), *arguments]
    )


def test_only_what_nothing_needs_is_removed(
    machine: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean(tmp_path) == 0
    text = capsys.readouterr().out
    assert "nothing was removed; --yes removes it" in text
    assert all(path.exists() for paths in machine.values() for path in paths)
    listed = [line.split("|")[3].strip() for line in text.splitlines()[2:] if "|" in line]
    for path in machine["removed"]:
        assert str(path) in listed or str(path.parent) in listed
    assert len(listed) == len(machine["removed"])
    assert clean(tmp_path, "--yes") == 0
    assert not [path for path in machine["removed"] if path.exists()]
    assert not [path for path in machine["kept"] if not path.exists()]
    capsys.readouterr()
    assert clean(tmp_path) == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_nothing_of_a_running_study_is_listed(
    machine: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = MethodRecords(tmp_path / "r.records" / "d" / "erm").storage
    with exclusive_lock(storage):
        assert clean(tmp_path, "--yes") == 0
    assert str(tmp_path / "r.records") not in capsys.readouterr().out
    assert machine["removed"][0].exists()


def test_caches_that_other_data_roots_share_are_not_listed(
    machine: dict[str, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "shared"
    (tmp_path / "data" / ".cache").rename(cache)
    monkeypatch.setenv("EVENHAND_CACHE", str(cache))
    assert clean(tmp_path, "--yes") == 0
    text = capsys.readouterr().out
    assert text.startswith("EVENHAND_CACHE: not looked at")
    assert str(cache) not in text
    assert (cache / "waterbirds" / "0123456789abcdef" / "x.npy").exists()
    assert not machine["removed"][0].exists()


@pytest.mark.parametrize("option", ["--results", "--data-root"])
def test_a_missing_folder_is_an_error(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", option, str(tmp_path / "absent")]) == 2
    assert "absent' is missing" in capsys.readouterr().err


def test_the_folder_of_rays_sessions_is_found() -> None:
    assert Path(ray_private.find_temporary_folder()).name == "ray"
