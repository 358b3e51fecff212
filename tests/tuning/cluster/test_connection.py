"""Clusters that are joined, refused or left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import clean_environment
from tests.support.ray_clusters import cluster_with_declared_gpu
from tuning.cli.main import main

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


def test_an_address_where_nothing_listens_is_refused_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--method", "erm", "--dataset", "colored_digits", "--address", "127.0.0.1:9"]
    assert main([*given, "--results", str(folder / "results")]) == 2
    printed = capsys.readouterr().err
    assert printed == "error: --address: no Ray cluster at '127.0.0.1:9': Connection refused\n"
    assert not list(folder.iterdir())
