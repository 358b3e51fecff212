"""Clusters that are joined, refused or left alone."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.command import ROOT, clean_environment
from tests.support.loopback import serving
from tests.support.ray_clusters import cluster_with_declared_gpu
from tuning.cli.main import main
from tuning.cluster.addresses import find_cluster

pytestmark = pytest.mark.study

ASK = """
import os, sys
import tuning
from common.errors import UserError
from tuning.cluster.addresses import find_cluster
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
    variables = {"RAY_TMPDIR": str(tmp_path), **token}
    with cluster_with_declared_gpu("token", **variables) as address:
        noted.write_text(address)

        def said(**changed: str) -> tuple[list[str], list[str]]:
            done = subprocess.run(
                [sys.executable, "-c", ASK, address], capture_output=True, text=True, timeout=120,
                env={**clean_environment(), "RAY_TMPDIR": str(tmp_path), **token, **changed},
            )  # fmt: skip
            return done.stdout.splitlines(), done.stderr.splitlines()

        assert said() == ([address, address, "None"], [])
        for changed in ({"RAY_AUTH_TOKEN": "2" * 64}, {"RAY_AUTH_MODE": "disabled"}):
            (asked, found, local), (line,) = said(**changed)
            assert asked.startswith(f"--address: the Ray cluster at '{address}' refuses")
            assert "~/.ray/auth_token" in asked
            assert found == local == "None"
            assert "found on this machine, refuses this user's token" in line


@pytest.mark.cluster
def test_a_running_cluster_is_found_by_the_folder_of_its_variable(tmp_path: Path) -> None:
    with cluster_with_declared_gpu("noted") as address:
        noted = tmp_path / "ray" / "ray_current_cluster"
        noted.parent.mkdir()
        noted.write_text(address)
        for variable in ("TMPDIR", "RAY_TMPDIR"):
            environment = {n: v for n, v in clean_environment().items() if "TMPDIR" not in n}
            done = subprocess.run(
                [sys.executable, "-c", ASK, "auto"], capture_output=True, text=True, timeout=120,
                env={**environment, variable: str(tmp_path)},
            )  # fmt: skip
            assert done.stdout.splitlines() == [address, address, "None"], done.stderr


HOLD = """
import sys
import ray
from tuning.cluster.connection import join_cluster
with join_cluster(None):
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_cluster_that_listens_on_loopback_only(tmp_path: Path) -> None:
    """Ray itself tries the machine's other address, for minutes."""
    environment = {**clean_environment(), "TMPDIR": str(tmp_path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], env=clean_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    address = holder.stdout.readline().strip()
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK, "auto"], capture_output=True, text=True, timeout=120,
            env=environment,
        )  # fmt: skip
        (auto, none, local) = done.stdout.splitlines()
        assert auto.startswith(
            "--address: received 'auto', but no Ray cluster runs on this machine"
        )
        assert address in auto
        assert none == local == "None"
        joined = subprocess.run(
            [sys.executable, "-c", JOIN, address], capture_output=True, text=True, timeout=120,
            env=environment,
        )  # fmt: skip
        assert joined.stdout.splitlines() == ["1 node"], joined.stderr
    finally:
        holder.communicate("", timeout=60)


JOIN = """
import sys
from tuning.cluster.addresses import find_cluster
from tuning.cluster.connection import join_cluster
with join_cluster(find_cluster(sys.argv[1])) as nodes:
    print(len(nodes), "node")
"""


def test_servers_that_are_no_head_of_a_cluster_are_refused_at_once(tmp_path: Path) -> None:
    with socket.socket() as silent, serving(tmp_path) as server:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for address, reason in (
            (f"127.0.0.1:{silent.getsockname()[1]}", "no answer within 5 s"),
            (server.address.removeprefix("http://"), "another program listens there"),
            ("127.0.0.1:9", "Connection refused"),
            ("no-such-host.invalid:6379", ""),
            *((wrong, "expected HOST:PORT of its head, auto or local") for wrong in (
                "somewhere", "ray://127.0.0.1:10001", ":6379", "127.0.0.1:0", "127.0.0.1:99999",
            )),
        ):  # fmt: skip
            with pytest.raises(UserError) as caught:
                find_cluster(address)
            assert str(caught.value).startswith(f"--address: no Ray cluster at '{address}': ")
            assert reason in str(caught.value)


def test_a_start_of_ray_that_fails_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder, variable, reason in (
        (tmp_path / ("x" * 60), "TMPDIR", "the paths of its sockets would be too long"),
        (file, "RAY_TMPDIR", "Not a directory"),
    ):
        environment = {n: v for n, v in clean_environment().items() if "TMPDIR" not in n}
        done = subprocess.run(
            [sys.executable, "tune.py", "doctor", "--address", "local", "--results", tmp_path],
            cwd=ROOT, capture_output=True, text=True, timeout=120,
            env={**environment, variable: str(folder)},
        )  # fmt: skip
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: cannot start Ray on this machine: ")
        assert reason in line
        assert f"'{folder}/ray' (from the variable {variable}): set RAY_TMPDIR" in line


def test_an_address_where_nothing_listens_is_refused_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--method", "erm", "--dataset", "colored_digits", "--address", "127.0.0.1:9"]
    assert main([*given, "--results", str(folder / "results")]) == 2
    printed = capsys.readouterr().err
    assert printed == "error: --address: no Ray cluster at '127.0.0.1:9': Connection refused\n"
    assert not list(folder.iterdir())
