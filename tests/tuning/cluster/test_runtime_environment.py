"""The code that goes to the workers."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.command import clean_environment, copy_project
from tests.support.ray_clusters import cluster_with_declared_gpu
from tuning.cluster import runtime_environment
from tuning.cluster.runtime_environment import upload_code

pytestmark = pytest.mark.study

# Asks a worker what it sees, twice; the other user's command runs at the same time.
USER = """
import json, sys
import ray
from tuning.cluster.connection import join_cluster

def look():
    import os
    import core.recipe.method_files, core.mine, datasets.fetch.sources
    assert datasets.fetch.sources.SOURCES.is_file()
    return {
        "file": core.mine.__file__,
        "folder": os.getcwd(),
        "word": core.mine.WORD,
        "momentum": core.recipe.method_files.load_method("mine").settings["momentum"],
    }

with join_cluster(sys.argv[1]):
    for _ in range(2):
        print(json.dumps(ray.get(ray.remote(num_cpus=1)(look).remote())), flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a cluster."""
    with cluster_with_declared_gpu("users") as found:
        yield found


def user(project: Path, word: str, momentum: float, address: str) -> "subprocess.Popen[str]":
    """Start a user's command in a copy of the project with a module and a method of their own."""
    copy_project(project)
    (project / "core" / "mine.py").write_text(f"WORD = {word!r}\n")
    (project / "core" / ".gitignore").write_text("mine.py\n")
    method = (project / "search_spaces" / "erm.yaml").read_text().split("# Grid")[0]
    (project / "search_spaces" / "mine.yaml").write_text(
        f"{method}settings: {{momentum: {momentum}}}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", USER, address],
        cwd=project, env=clean_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.cluster
@pytest.mark.slow
def test_two_users_with_other_code_share_a_cluster(address: str, tmp_path: Path) -> None:
    users = {
        word: user(tmp_path / word, word, momentum, address)
        for word, momentum in (("one", 0.25), ("other", 0.75))
    }
    for process in users.values():  # both are joined before either asks again
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, process.communicate(timeout=60)[1]
    for word, process in users.items():
        out, err = process.communicate("\n\n", timeout=120)
        assert process.returncode == 0, err
        assert err == ""
        (seen,) = map(json.loads, out.splitlines())
        assert seen["word"] == word
        assert seen["momentum"] == {"one": 0.25, "other": 0.75}[word]
        assert seen["folder"] == str(tmp_path / word)
        assert not seen["file"].startswith(str(tmp_path))  # it came with the command, not by path


def test_only_code_travels_and_not_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("common", "core", "datasets", "search_spaces", "tuning", "data", ".venv", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 1000)
    monkeypatch.setattr(runtime_environment, "ROOT", tmp_path)
    monkeypatch.setattr(runtime_environment, "MAX_CODE_BYTES", 6000)
    sent = upload_code()
    assert sent["working_dir"] == str(tmp_path)
    assert set(sent["excludes"]) == {"/data", "/.venv", "/tests", "__pycache__"}
    (tmp_path / "core" / "weights.pt").write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match=r"expected at most .*: move 'core/weights.pt'"):
        upload_code()
