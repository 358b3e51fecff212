"""Studies on a cluster with a GPU that is only declared."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import run_tune
from tests.support.ray_clusters import cluster_with_declared_gpu

pytestmark = pytest.mark.study


@pytest.fixture(scope="module")
def declared_gpu() -> Iterator[str]:
    """The address of such a cluster."""
    with cluster_with_declared_gpu("shares") as address:
        yield address


@pytest.mark.cluster
def test_four_trials_share_a_declared_gpu(declared_gpu: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = run_tune(
        ["--method", "erm", "--dataset", "colored_digits", "--trials", "8", "--seeds", "1",
         "--epochs", "6", "--scheduler", "none", "--gpus-per-trial", "0.25",
         "--address", declared_gpu, "--results", results]
    )  # fmt: skip
    assert done.ran_to_end, done.out + done.err
    assert "; up to 4 trials in parallel on 1 node" in done.out
    ends = [json.loads(path.read_text()) for path in tmp_path.rglob("end.json")]
    assert len({end["process"] for end in ends}) == 4


@pytest.mark.cluster
def test_auto_takes_steps_on_a_worker_and_says_what_it_saw(
    declared_gpu: str, tmp_path: Path
) -> None:
    done = run_tune(
        ["--method", "erm", "--dataset", "colored_digits", "--seeds", "1", "--epochs", "1",
         "--trials", "1", "--gpus-per-trial", "auto", "--address", declared_gpu,
         "--results", tmp_path / "results"]
    )  # fmt: skip
    assert done.ran_to_end, done.out + done.err
    line = "no CUDA device on the workers: nothing measured, one GPU per trial"
    assert f"--gpus-per-trial auto: {line}\nerm on" in done.out
    assert "; up to 1 trial in parallel on 1 node" in done.out
    (probe,) = tmp_path.rglob("probe.json")
    found = json.loads(probe.read_text())
    assert found["share"] == 1
    assert found["usage"]["seconds"] > 0


@pytest.mark.cluster
def test_a_request_that_no_node_can_hold_writes_nothing(declared_gpu: str, folder: Path) -> None:
    done = run_tune(
        ["--method", "erm", "--dataset", "colored_digits", "--gpus-per-trial", "2",
         "--address", declared_gpu, "--results", folder / "results"]
    )  # fmt: skip
    assert done.code == 2
    assert "largest node" in done.err
    assert "1 GPU)" in done.err
    assert not list(folder.iterdir())
