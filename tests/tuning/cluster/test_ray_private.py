"""Ray's private interface is as we use it; a failure names the release and the file to look at."""

import inspect
import os
from pathlib import Path

import pytest
import ray
from ray import exceptions
from ray.air.execution._internal import RayActorManager, TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.tune.execution import tune_controller

from tests.support.command import ROOT
from tuning.cluster import ray_environment
from tuning.cluster.ray_private import LOW_MEMORY, CrashingActorManager, take_errors_for_crashes

HELP = f"Ray {ray.__version__} has changed: look at tuning/cluster/ray_private.py"


def test_the_switch_for_loopback_is_there() -> None:
    from ray._private import ray_constants, services

    assert isinstance(getattr(ray_constants, "ENABLE_RAY_CLUSTER", None), bool), HELP
    source = inspect.getsource(services.get_node_ip_address)
    assert "ENABLE_RAY_CLUSTER" in source, HELP


def test_a_cluster_of_ones_own_gets_the_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants, services

    from tuning.cluster.ray_private import listen_on_loopback

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    listen_on_loopback()
    assert services.get_node_ip_address() == "127.0.0.1", HELP


def test_the_client_of_a_clusters_head_takes_an_address_and_a_timeout() -> None:
    from ray._raylet import InnerGcsClient  # type: ignore[attr-defined]

    made = getattr(InnerGcsClient, "standalone", None)
    assert made is not None, HELP
    for word in ("gcs_address", "cluster_id", "timeout_ms"):
        assert word in made.__doc__, HELP


def test_ray_notes_its_address_in_the_folder_of_its_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuning.cluster.ray_private import find_temporary_folder, read_noted_address

    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    assert find_temporary_folder() == "/tmp/ray", HELP
    for name in ("TMPDIR", "RAY_TMPDIR"):  # the second goes before the first
        folder = tmp_path / name
        monkeypatch.setenv(name, str(folder))
        assert find_temporary_folder() == str(folder / "ray"), HELP
        assert read_noted_address(None) is None
        (folder / "ray").mkdir(parents=True)
        (folder / "ray" / "ray_current_cluster").write_text(f"{name}:6379\n")
        assert read_noted_address(None) == f"{name}:6379", HELP
        assert read_noted_address(str(folder / "ray")) == f"{name}:6379", HELP


def test_workers_have_the_niceness_of_other_processes() -> None:
    from ray._private import ray_constants

    name = getattr(ray_constants, "RAY_WORKER_NICENESS", None)
    assert name in ray_environment.SETTINGS, HELP
    assert os.environ[name] == "0"
    once = ("clusters/slurm.sh", "clusters/Dockerfile")  # the image of clusters/kuberay.yaml
    for file in (*once, "cluster.yaml", "clusters/gcp.yaml", "clusters/onprem.yaml"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert text.count(f"{name}=0") == (1 if file in once else 2), file


@pytest.mark.parametrize(
    "error",
    [
        exceptions.OutOfMemoryError("Task was killed due to the node running low on memory."),
        exceptions.NodeDiedError("the node died"),
        exceptions.ActorDiedError(),
        exceptions.ObjectStoreFullError("full"),
        exceptions.OutOfDiskError("full"),
        exceptions.OwnerDiedError("0" * 56, None, ""),
        exceptions.RaySystemError("lost connection"),
        exceptions.GetTimeoutError("late"),
        exceptions.WorkerCrashedError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_of_a_process_is_its_crash_and_ends_no_study(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = inspect.getsource(RayActorManager._actor_task_failed)
    assert "isinstance(exception, RayActorError)" in source, HELP
    heard: list[Exception] = []

    def keep_error(manager: RayActorManager, task: TrackedActorTask, found: Exception) -> None:
        heard.append(found)

    monkeypatch.setattr(RayActorManager, "_actor_task_failed", keep_error)
    manager = object.__new__(CrashingActorManager)  # one that is set up would start Ray
    manager._actor_task_failed(TrackedActorTask(TrackedActor(0)), error)
    assert isinstance(heard[0], exceptions.RayActorError)
    assert (LOW_MEMORY in str(heard[0])) == isinstance(error, exceptions.OutOfMemoryError)


def test_tune_drives_its_processes_with_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    original = tune_controller.RayActorManager  # type: ignore[attr-defined]
    monkeypatch.setattr(tune_controller, "RayActorManager", original)  # restored afterwards
    take_errors_for_crashes()
    assert "RayActorManager(" in inspect.getsource(tune_controller.TuneController.__init__), HELP
    assert tune_controller.RayActorManager is CrashingActorManager  # type: ignore[attr-defined]
