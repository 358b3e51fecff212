"""Ray's private interface is as we use it; a failure names the release and the file to look at."""

import inspect
import os

import pytest
import ray

from tuning.cluster import ray_environment

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


def test_the_client_of_a_clusters_head_takes_an_address() -> None:
    from ray import _raylet

    assert hasattr(_raylet, "GcsClient"), HELP
    with pytest.raises(TypeError, match="1 positional argument"):  # the address
        _raylet.GcsClient()


def test_workers_have_the_niceness_of_other_processes() -> None:
    from ray._private import ray_constants

    name = getattr(ray_constants, "RAY_WORKER_NICENESS", None)
    assert name in ray_environment.SETTINGS, HELP
    assert os.environ[name] == "0"
