"""Data below a read-only root: nothing is written there, and the reason for a refusal is right."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from datasets import prepare
from tests.support import real_data
from tests.support.comment_files import write_original
from tests.support.dense_files import write_dense
from tests.support.image_files import write_birds
from tests.support.read_only import run_read_only
from tests.support.undisturbed import once

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

# All commands run in one process, whose imports take longer than they do.
RUN = """
import contextlib, io, json, os, sys
import datasets
from datasets import describe, prepare
ended = {}
for name, program, cache, *arguments in json.loads(sys.argv[1]):
    os.environ["EVENHAND_CACHE"] = cache
    datasets.load_benchmark.cache_clear()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = {"prepare": prepare, "describe": describe}[program].main(arguments)
    ended[name] = [code, out.getvalue(), err.getvalue()]
json.dump(ended, sys.stdout)
"""


class Ended(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def list_commands(folder: Path, names: list[str]) -> list[list[str]]:
    """Return commands: a name, the program, the folder of caches, and the arguments."""
    found = []
    for name in names:
        for state in ("prepared", "raw"):
            data = [name, "--data-root", str(folder / "data" / f"{name}-{state}")]
            cache = str(folder / "cache" / f"{name}-{state}")
            found += [
                [f"{name}-{state}", "prepare", cache, *data],
                [f"{name}-{state} check", "prepare", cache, *data, "--check"],
                [f"{name}-{state} describe", "describe", cache, *data],
            ]
        found += [
            [f"{name} refused", "prepare", "", *data],
            [f"{name} uncached", "prepare", "", *data, "--no-cache"],
        ]
    nothing = ["waterbirds", "--data-root", str(folder / "data" / "nothing")]
    download = [*nothing, "--download", "--source", "http://127.0.0.1:9/x"]
    return [
        *found,
        ["missing", "prepare", "", *nothing],
        ["download", "prepare", "", *download],
    ]


def list_files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def run_commands(folder: Path) -> None:
    """Write data, and run all commands while their folder is mounted read-only."""
    data, names = folder / "data", []
    for name, write in DATA.items():
        try:
            write(data / f"{name}-raw")
            write(data / f"{name}-prepared")
        except pytest.skip.Exception as reason:  # a part of these data is not on this machine
            (folder / f"{name}.skipped").write_text(str(reason), encoding="utf-8")
            continue
        names.append(name)
        given = [name, "--data-root", str(data / f"{name}-prepared"), "--no-cache"]
        assert prepare.main(given) == 0
    (data / "nothing").mkdir()
    before = list_files(data)
    command = [sys.executable, "-c", RUN, json.dumps(list_commands(folder, names))]
    done = run_read_only(data, command, {})
    assert done.returncode == 0, done.stderr
    assert list_files(data) == before
    (folder / "ended.json").write_text(done.stdout, encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all data and caches, with the outputs of all commands."""
    return once(tmp_path_factory, "read_only", run_commands)


@pytest.fixture(scope="module")
def ended(folder: Path) -> dict[str, Ended]:
    """How each command ended."""
    outputs: dict[str, list[str]] = json.loads((folder / "ended.json").read_text(encoding="utf-8"))
    return {name: Ended(int(code), out, err) for name, (code, out, err) in outputs.items()}


def skip_absent(folder: Path, name: str) -> None:
    """Skip a test of data that are not on this machine."""
    if (reason := folder / f"{name}.skipped").exists():
        pytest.skip(reason.read_text(encoding="utf-8"))


@pytest.mark.parametrize("state", ["prepared", "raw"])
@pytest.mark.parametrize("name", DATA)
def test_complete_data_are_cached_elsewhere(
    folder: Path, ended: dict[str, Ended], name: str, state: str
) -> None:
    skip_absent(folder, name)
    code, out, err = ended[f"{name}-{state}"]
    assert code == 0, err
    assert out == f"{name}: complete ({folder / 'data' / f'{name}-{state}' / name})\n"
    needs_table = state == "raw" and name != "cityscapes"
    assert ("its table is made anew in each run" in err) == needs_table
    assert "free some space" not in err
    assert len(list((folder / "cache" / f"{name}-{state}").glob(f"{name}/*/manifest.json"))) == 1
    assert ended[f"{name}-{state} check"].code == 0
    described = ended[f"{name}-{state} describe"]
    assert described.code == 0, described.err
    assert "Hash:" in described.out
    assert "not known yet" not in described.out


@pytest.mark.parametrize("name", DATA)
def test_a_refusal_gives_the_reason(folder: Path, ended: dict[str, Ended], name: str) -> None:
    skip_absent(folder, name)
    code, _, err = ended[f"{name} refused"]
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    cache = folder / "data" / f"{name}-raw" / ".cache" / name
    assert f"{name}: {cache}: cannot be written (Read-only file system" in line
    assert line.endswith(
        "make it writable, or set EVENHAND_CACHE to a writable folder on a disk with free space"
    )
    assert ended[f"{name} uncached"].code == 0


def test_missing_data_are_named_and_a_download_says_where_it_cannot_be(
    folder: Path, ended: dict[str, Ended]
) -> None:
    root = folder / "data" / "nothing"
    code, out, err = ended["missing"]
    assert (code, out) == (1, "")
    assert f"{root / 'waterbirds'}: missing; put the data there" in err
    code, _, err = ended["download"]
    assert code == 2
    assert err.startswith(f"error: waterbirds: {root}: cannot be written (Read-only")
    assert err.endswith("make it writable, or choose another --data-root\n")
    assert os.listdir(root) == []
