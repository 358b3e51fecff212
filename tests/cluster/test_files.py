"""The cluster files as far as they can be checked without their clouds."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
RAY = str(Path(sys.executable).with_name("ray"))
HEAD = "requirements-head.txt"  # brings Ray's extra, and with it grpc
LAUNCHED = [ROOT / "cluster.yaml", ROOT / "clusters/onprem.yaml", ROOT / "clusters/gcp.yaml"]

# Keys of a provider that Ray 2.60 reads; its own schema lets any other pass.
PROVIDER = {
    "aws": {"type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips"},
    "gcp": {"type", "region", "availability_zone", "project_id"},
    "local": {"type", "head_ip", "worker_ips"},
}
DEMANDED = {
    "aws": {"type", "region"},
    "gcp": {"type", "region", "availability_zone", "project_id"},
    "local": {"type", "head_ip", "worker_ips"},
}


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def mistakes(config: dict[str, Any]) -> list[str]:
    """What Ray's schema does not see."""
    provider, auth = config["provider"], config.get("auth", {})
    kind = provider["type"]
    found = [f"provider: unknown key {key}" for key in set(provider) - PROVIDER[kind]]
    found += [f"provider: {key} is missing" for key in DEMANDED[kind] - set(provider)]
    if "ssh_user" not in auth or (kind == "local" and "ssh_private_key" not in auth):
        found.append("auth: no way in")
    head, worker = ("\n".join(config[f"{role}_start_ray_commands"]) for role in ("head", "worker"))
    for role, commands in (("head", head), ("worker", worker)):
        if not re.search(r"RAY_AUTH_MODE=token.*ray start", commands, re.DOTALL):
            found.append(f"{role}: no token is asked for")
        if "--disable-usage-stats" not in commands:
            found.append(f"{role}: usage statistics are sent")
    if "--dashboard-host=127.0.0.1" not in head:
        found.append("head: the dashboard listens to the world")
    prepared = "\n".join(config.get("head_setup_commands", []))
    if HEAD in prepared and "/clusters/bin/ray start --head" not in head:
        found.append("head: Ray's clients are served on the node's address")
    if kind == "local" and "RAY_enable_autoscaler_v2=0" not in head:
        found.append("head: the second autoscaler knows no machines of one's own")
    for name, node in config.get("available_node_types", {}).items():
        if node.get("max_workers", 0) > config["max_workers"]:
            found.append(f"{name}: more workers than max_workers")
    return found


def validate(config: dict[str, Any]) -> None:
    util: Any = importlib.import_module("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(config))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.stem)
def test_file_is_what_ray_expects(path: Path) -> None:
    config = load(path)
    validate(config)
    assert not mistakes(config)
    names = config.get("available_node_types", {})
    assert not names or config["head_node_type"] in names


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.stem)
def test_a_damaged_file_is_noticed(path: Path) -> None:
    sound = load(path)
    damages: tuple[dict[str, Any], ...] = (
        {"auth": {}},
        {"provider": {**sound["provider"], "regoin": "us-east-1"}},
        {"provider": {"type": sound["provider"]["type"]}},
        {"head_start_ray_commands": ["ray start --head --dashboard-host=0.0.0.0"]},
        {
            "head_setup_commands": [f".venv/bin/python -m pip install -r {HEAD}"],
            "head_start_ray_commands": [
                "export RAY_AUTH_MODE=token; ray start --head "
                "--disable-usage-stats --dashboard-host=127.0.0.1"
            ],
        },
    )
    for damage in damages:
        assert mistakes({**sound, **damage})


def test_cloud_workers_are_bounded_spot_machines_and_the_head_holds_no_trials() -> None:
    for path in (ROOT / "cluster.yaml", ROOT / "clusters/gcp.yaml"):
        config = load(path)
        nodes = config["available_node_types"]
        assert nodes["head"]["resources"]["CPU"] == 0
        assert 1 <= nodes["gpu"]["min_workers"] <= nodes["gpu"]["max_workers"]
        assert config["idle_timeout_minutes"] <= 15
        assert "SPOT" in str(nodes["gpu"]["node_config"]).upper()
        assert "SPOT" not in str(nodes["head"]["node_config"]).upper()
        text = path.read_text()
        assert "make install" in text
    spot = load(ROOT / "cluster.yaml")["available_node_types"]["gpu"]["node_config"]
    assert float(spot["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"]) < 2


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("listed", "started"),
    [
        ("", False),
        ("GPU 0: NVIDIA A10G (UUID: GPU-1)", True),
        ("GPU 0: NVIDIA A100 (UUID: GPU-1)\n  MIG 1g.5gb  Device  0: (UUID: MIG-2)", False),
    ],
)
def test_workers_start_mps_where_it_serves(
    path: Path, listed: str, started: bool, tmp_path: Path
) -> None:
    commands = load(path)["worker_start_ray_commands"]
    (command,) = (text for text in commands if "mps-control" in text)
    for name, script in (
        ("nvidia-smi", f"printf '{listed}'; [ -n '{listed}' ]"),
        ("nvidia-cuda-mps-control", f"echo started $1 >> {tmp_path}/log; exit 1"),  # it ran before
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=20)
    assert done.returncode == 0
    assert done.stdout + done.stderr == b""
    assert (tmp_path / "log").exists() is started


def test_what_is_installed_is_pinned_with_its_hash() -> None:
    for path in (*LAUNCHED, *(ROOT / "clusters" / name for name in ("Dockerfile", "kuberay.yaml"))):
        for command in re.findall(r"pip install .*", path.read_text()):
            (name,) = re.findall(
                r"--no-deps --require-hashes -r (requirements[-a-z]*\.txt)", command
            )
            pins = re.split(r"^(?=[a-z])", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
            assert pins
            assert all("==" in pin and "--hash=sha256:" in pin for pin in pins)
            assert {"boto3", "google-api-python-client", "grpcio"} <= {
                pin.partition("==")[0] for pin in pins
            }


# Runs a command `ray` up to where it would start something, and prints the port of the clients.
STARTS = """
import runpy, sys
from ray._private import parameter, utils
def printed(**asked):
    dashboard_sees_grpc = utils.get_ray_client_dependency_error() is None
    print(asked["ray_client_server_port"], dashboard_sees_grpc)
    sys.exit()
parameter.RayParams = printed
command = sys.argv[1]
sys.argv[1:] = ["start", "--head"]
runpy.run_path(command, run_name="__main__")
"""


def test_the_head_opens_no_port_for_clients(tmp_path: Path) -> None:
    """With a `grpc` in reach, as the head's extra brings one."""
    (tmp_path / "grpc.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def printed(command: object) -> str:
        done = subprocess.run(
            [sys.executable, "-c", STARTS, str(command)], env=environment, cwd=tmp_path,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    assert printed(RAY) == "10001 True"
    assert printed(ROOT / "clusters" / "bin" / "ray") == "None True"
    assert os.access(ROOT / "clusters" / "bin" / "ray", os.X_OK)
    assert (
        "ln -sf ../../clusters/bin/ray .venv/bin/ray"
        in (ROOT / "clusters" / "Dockerfile").read_text()
    )
