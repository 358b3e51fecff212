"""Resources: how many trials fit, who is told what when none does, and whose code they run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from tests.support.command import copied_project, descendants, environment, tune
from tests.tuning.doctor.test_doctor import MIG, stand_in
from tuning.cli.main import main
from tuning.cluster import ray_environment, runtime_environment
from tuning.cluster.nodes import local_node
from tuning.cluster.runtime_environment import upload_code
from tuning.resources import Node, Resources, choose_resources, count_slots


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "expected"),
    [
        (1, 0, Node("a", 8, 0), 8),
        (3, 0, Node("a", 8, 0), 2),
        (1, 0.25, Node("a", 8, 1), 4),
        (1, 0.25, Node("a", 3, 1), 3),
        (1, 0.4, Node("a", 8, 2), 4),  # two to a GPU: a share does not cross to the next one
        (1, 1, Node("a", 8, 2), 2),
        (1, 2, Node("a", 8, 3), 1),
        (1, 0.1, Node("a", 32, 1), 10),
        (1, 1, Node("a", 8, 0), 0),
        (16, 0, Node("a", 8, 0), 0),
    ],
)
def test_fit(cpus: int, gpus: float, node: Node, expected: int) -> None:
    assert Resources(cpus, gpus).count_trials(node) == expected


def test_slots_add_up_and_one_gpu_is_the_default_where_there_is_one() -> None:
    nodes = [Node("head", 4, 0), Node("worker", 8, 2)]
    chosen = choose_resources(nodes, 1, None)
    assert chosen.gpus == 1
    assert count_slots(nodes, chosen) == 2
    assert choose_resources([Node("head", 4, 0)], 1, None).gpus == 0


def test_the_largest_node_is_named() -> None:
    nodes = [Node("small", 2, 0), Node("big", 16, 0), Node("gpu", 4, 1)]
    with pytest.raises(UserError, match=r"largest node is big \(16 CPUs"):
        choose_resources(nodes, 32, 0)
    with pytest.raises(UserError, match=r"largest node is gpu \(4 CPUs, 1 GPU\)"):
        choose_resources(nodes, 1, 2)


def start_with_gpu(name: str, **more: str) -> tuple["subprocess.Popen[str]", str, Path]:
    """Start a Ray cluster on loopback with a GPU that is only declared; give its address."""
    folder = Path("/tmp") / f"evenhand-{name}-{os.getpid()}"  # Ray's sockets need a short path
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = str(Path(sys.executable).with_name("ray"))
    process = subprocess.Popen(
        [ray, "start", "--head", f"--port={port}", "--num-cpus=4", "--num-gpus=1", "--block",
         "--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--temp-dir={folder}",
         "--disable-usage-stats"],
        env={**environment(), **more}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "--block" in line:  # the cluster is up and this command now waits
            break
    return process, f"127.0.0.1:{port}", folder


def stop(process: "subprocess.Popen[str]") -> None:
    """End such a cluster at once; in order, it would take half a minute."""
    for number in descendants(process.pid):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def declared_gpu() -> Iterator[str]:
    """The address of such a cluster."""
    process, address, folder = start_with_gpu("shares")
    yield address
    stop(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.cluster
def test_four_trials_share_a_declared_gpu(declared_gpu: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = tune(
        ["--method", "erm", "--dataset", "colored_digits", "--trials", "8", "--seeds", "1",
         "--epochs", "6", "--scheduler", "none", "--gpus-per-trial", "0.25",
         "--address", declared_gpu, "--results", results]
    )  # fmt: skip
    assert done.code == 0, done.out + done.err
    assert "; 4 at once on 1 node(s)" in done.out
    ends = [json.loads(path.read_text()) for path in tmp_path.rglob("end.json")]
    assert len({end["process"] for end in ends}) == 4


@pytest.mark.cluster
def test_auto_takes_steps_on_a_worker_and_says_what_it_saw(
    declared_gpu: str, tmp_path: Path
) -> None:
    done = tune(
        ["--method", "erm", "--dataset", "colored_digits", "--seeds", "1", "--epochs", "1",
         "--trials", "1", "--gpus-per-trial", "auto", "--address", declared_gpu,
         "--results", tmp_path / "results"]
    )  # fmt: skip
    assert done.code == 0, done.out + done.err
    line = "no CUDA device on the workers: nothing measured, one GPU per trial"
    assert f"--gpus-per-trial auto: {line}\nerm on" in done.out
    assert "; 1 at once on 1 node(s)" in done.out
    (probe,) = tmp_path.rglob("probe.json")
    found = json.loads(probe.read_text())
    assert found["share"] == 1
    assert found["usage"]["seconds"] > 0


@pytest.mark.cluster
def test_a_request_that_no_node_can_hold_writes_nothing(declared_gpu: str, folder: Path) -> None:
    done = tune(
        ["--method", "erm", "--dataset", "colored_digits", "--gpus-per-trial", "2",
         "--address", declared_gpu, "--results", folder / "results"]
    )  # fmt: skip
    assert done.code == 2
    assert "largest node" in done.err
    assert "1 GPU)" in done.err
    assert not list(folder.iterdir())


ASK = """
import os, sys
import tuning
from common.errors import UserError
from tuning.cluster.connection import find_cluster
for asked in (sys.argv[1], None, "local"):
    try:
        print(find_cluster(asked))
    except UserError as error:
        print(error)
"""


@pytest.mark.cluster
def test_a_cluster_with_another_token_is_named_or_left_alone(tmp_path: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 64}
    noted = tmp_path / "ray" / "ray_current_cluster"
    noted.parent.mkdir()
    process, address, folder = start_with_gpu("token", RAY_TMPDIR=str(tmp_path), **token)
    try:
        noted.write_text(address)

        def said(**changed: str) -> tuple[list[str], list[str]]:
            done = subprocess.run(
                [sys.executable, "-c", ASK, address], capture_output=True, text=True, timeout=120,
                env={**environment(), "RAY_TMPDIR": str(tmp_path), **token, **changed},
            )  # fmt: skip
            return done.stdout.splitlines(), done.stderr.splitlines()

        assert said() == ([address, address, "None"], [])
        for changed in ({"RAY_AUTH_TOKEN": "2" * 64}, {"RAY_AUTH_MODE": "disabled"}):
            (asked, found, local), (line,) = said(**changed)
            assert asked.startswith(f"--address: the Ray cluster at '{address}' refuses")
            assert "~/.ray/auth_token" in asked
            assert found == local == "None"
            assert "found on this machine, refuses this user's token" in line
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_token_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "home" / "auth_token"
    monkeypatch.setattr(ray_environment, "TOKEN", token)
    ray_environment.protect_token()
    assert token.parent.stat().st_mode & 0o777 == 0o700
    token.touch(0o644)
    token.chmod(0o644)
    ray_environment.protect_token()
    assert token.stat().st_mode & 0o777 == 0o600


def test_an_address_where_nothing_listens_is_refused_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--method", "erm", "--dataset", "colored_digits", "--address", "127.0.0.1:9"]
    assert main([*given, "--results", str(folder / "results")]) == 2
    told = capsys.readouterr().err
    assert told == "error: --address: no Ray cluster at '127.0.0.1:9': Connection refused\n"
    assert not list(folder.iterdir())


# --- code that travels ---

# Asks a worker what it sees, twice; the other user's command runs at the same time.
USER = """
import json, sys
import ray
from tuning.cluster.connection import join_cluster

def look():
    import os
    import core.recipe.method_files, core.mine, datasets.fetch.sources, tuning.doctor.node_facts
    assert datasets.fetch.sources.SOURCES.is_file()
    return {
        "file": core.mine.__file__,
        "folder": os.getcwd(),
        "word": core.mine.WORD,
        "momentum": core.recipe.method_files.load_method("mine").settings["momentum"],
        "hash": tuning.doctor.node_facts.hash_code(),
    }

with join_cluster(sys.argv[1]):
    for _ in range(2):
        print(json.dumps(ray.get(ray.remote(num_cpus=1)(look).remote())), flush=True)
        sys.stdin.readline()
from tuning.doctor.node_facts import hash_code
print(json.dumps({"hash": hash_code()}))
"""


def user(project: Path, word: str, momentum: float, address: str) -> "subprocess.Popen[str]":
    """Start a user's command in a copy of the project with a module and a method of their own."""
    copied_project(project)
    (project / "core" / "mine.py").write_text(f"WORD = {word!r}\n")
    (project / "core" / ".gitignore").write_text("mine.py\n")
    method = (project / "search_spaces" / "erm.yaml").read_text().split("# Grid")[0]
    (project / "search_spaces" / "mine.yaml").write_text(
        f"{method}settings: {{momentum: {momentum}}}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", USER, address],
        cwd=project, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.cluster
@pytest.mark.slow
def test_two_users_with_other_code_share_a_cluster(declared_gpu: str, tmp_path: Path) -> None:
    users = {
        word: user(tmp_path / word, word, momentum, declared_gpu)
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
        seen, own = map(json.loads, out.splitlines())
        assert seen["word"] == word
        assert seen["momentum"] == {"one": 0.25, "other": 0.75}[word]
        assert seen["hash"] == own["hash"]
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


def test_mig_slices_of_this_machine_are_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, MIG)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local_node().gpus == 4
    for named, expected in (("MIG-a,MIG-b", 2), ("GPU-1,MIG-a,MIG-b", 3)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert local_node().gpus == expected
