"""Slots follow an autoscaler: it is told what a study could use, and its nodes are used."""

import json

import pytest

from tests.cluster.test_study_on_hosts import ENTER, ROOT, copy_project, until
from tests.support.hosts import explain_missing, make_hosts

# The autoscaler is Ray's real one; the machines that it starts are processes on the same host.
CLUSTER = {
    "cluster_name": "scaled", "max_workers": 2, "idle_timeout_minutes": 1, "upscaling_speed": 4.0,
    "provider": {
        "type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
    "head_node_type": "ray.head.default", "auth": {}, "docker": {}, "file_mounts": {},
    "cluster_synced_files": [], "initialization_commands": [], "setup_commands": [],
    "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}  # fmt: skip


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.skipif(bool(explain_missing()), reason=explain_missing())
def test_nodes_that_the_autoscaler_brings_are_used() -> None:
    with make_hosts(["one"], ROOT) as made:
        home = made.hosts["one"].home
        copy_project(home / "evenhand")
        (home / "cluster.json").write_text(json.dumps(CLUSTER))
        started = made.sh(
            "one",
            f"{ENTER} export AUTOSCALER_UPDATE_INTERVAL_S=1 RAY_FAKE_CLUSTER=1 "
            "RAY_enable_autoscaler_v2=0 RAY_AUTH_MODE=disabled; ray start --head --port=6379 "
            "--num-cpus=1 --num-gpus=0 --include-dashboard=false --object-store-memory=100000000 "
            "--autoscaling-config=$HOME/cluster.json --disable-usage-stats",
        )
        assert started.returncode == 0, started.stdout
        # Work enough for any machine: it is stopped once the new nodes have done some of it.
        study = made.sh(
            "one",
            f"{ENTER} export RAY_AUTH_MODE=disabled; nohup python tune.py --method erm "
            "--dataset colored_digits --trials 2000 --seeds 1 --epochs 20 --search random "
            "--scheduler none --storage /mnt/shared/records --results /mnt/shared/results "
            "> /mnt/shared/study.log 2>&1 & echo $!",
        )
        driver, log = study.stdout.strip(), made.shared / "study.log"

        def workers() -> set[int]:
            ends = made.shared.glob("records/*/*/runs/*/end.json")
            return {json.loads(path.read_text())["process"] for path in ends}

        # A node has one CPU and so one process. Trials are shorter than a process takes to start.
        until("a process on each node has ended trials", lambda: len(workers()) > 2, 300)
        assert "up to 1 trial in parallel on 1 node" in log.read_text()  # at the start
        made.sh("one", f"kill -TERM {driver}")
        until(
            "the study has ended",
            lambda: bool(made.sh("one", f"kill -0 {driver}").returncode),
            120,
        )
        assert "--resume" in log.read_text()
