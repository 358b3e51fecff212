"""The cluster files as far as they can be checked without their clouds."""

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
    found: dict[str, Any] = yaml.safe_load(path.read_text())
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
    if HEAD in prepared and "no clients" not in prepared.partition(HEAD)[2]:
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
        {"head_setup_commands": [f".venv/bin/python -m pip install -r {HEAD}"]},
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


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def manifest() -> tuple[dict[str, Any], dict[str, Any]]:
    claim, cluster = yaml.safe_load_all((ROOT / "clusters/kuberay.yaml").read_text())
    return claim, cluster


def test_kuberay_manifest_has_the_fields_and_types_of_its_kind() -> None:
    schema = yaml.safe_load(Path(__file__).with_name("raycluster.schema.yaml").read_text())
    validators: Any = importlib.import_module("jsonschema")
    validators.Draft202012Validator.check_schema(schema)
    sound = validators.Draft202012Validator(schema)
    _, cluster = manifest()
    assert [error.message for error in sound.iter_errors(cluster)] == []

    def damaged(*path: str | int, value: object) -> dict[str, Any]:
        found = manifest()[1]
        at: Any = found
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = value
        return found

    group = ("spec", "workerGroupSpecs", 0)
    for damage in (
        damaged("apiVersion", value="ray.io/v1alpha1"),
        damaged("spec", "authOption", value={"mode": "token"}),
        damaged("spec", "authOptions", "mode", value="tokens"),
        damaged("spec", "autoscalerOptions", "version", value="v3"),
        damaged("spec", "headGroupSpec", "rayStartParams", "num-cpus", value=0),
        damaged(*group, "maxReplicas", value="4"),
        damaged(*group, "template", "spec", "containers", 0, "image", value=None),
        damaged(*group, "template", "spec", "containers", 0, "resource", value={}),
        damaged(*group, "template", "spec", "volumes", 1, "emptyDir", "sizeLimit", value="8 GB"),
    ):
        assert not sound.is_valid(damage)


@pytest.mark.filterwarnings("ignore")
def test_kuberay_manifest_as_rays_autoscaler_reads_it() -> None:
    module: Any = importlib.import_module("ray.autoscaler._private.kuberay.autoscaling_config")
    util: Any = importlib.import_module("ray.autoscaler._private.util")
    _, cluster = manifest()
    cluster["metadata"]["namespace"] = "evenhand"  # which the cluster itself fills in
    read = module._derive_autoscaling_config_from_ray_cr(cluster)
    util.validate_config(read)
    head, gpu = (read["available_node_types"][name] for name in ("headgroup", "gpu"))
    assert head["resources"]["CPU"] == 0
    assert (gpu["resources"]["CPU"], gpu["resources"]["GPU"]) == (8, 1)
    assert (gpu["min_workers"], gpu["max_workers"]) == (1, read["max_workers"])
    assert read["idle_timeout_minutes"] == 10


def test_kuberay_pods_share_the_claim_and_ask_for_the_token() -> None:
    claim, cluster = manifest()
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in pods(cluster):
        assert pod["restartPolicy"] == "Never"
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        claimed = volumes["shared"]["persistentVolumeClaim"]["claimName"]
        assert claimed == claim["metadata"]["name"]
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    import ray

    assert spec["rayVersion"] == ray.__version__


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


# Runs a copy of the command `ray` up to where it would start something, and tells that port.
STARTS = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="read")
from ray._private import parameter, utils
from ray.scripts import scripts
def told(**asked):
    dashboard_sees_grpc = utils.get_ray_client_dependency_error() is None
    print(asked["ray_client_server_port"], dashboard_sees_grpc)
    sys.exit()
parameter.RayParams = told
sys.argv[1:] = ["start", "--head"]
scripts.main()
"""


def test_the_extra_opens_no_port_for_clients(tmp_path: Path) -> None:
    """The setup line, on a copy of the command `ray`, with a `grpc` in reach as the extra has."""
    copied = tmp_path / ".venv/bin/ray"
    copied.parent.mkdir(parents=True)
    (tmp_path / "grpc.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    lines = set()
    for path in (ROOT / "cluster.yaml", ROOT / "clusters/gcp.yaml"):
        (command,) = (c for c in load(path)["head_setup_commands"] if "no clients" in c)
        lines.add(command.replace("cd ~/evenhand && ", ""))
    (line,) = lines
    assert line in (ROOT / "clusters/Dockerfile").read_text()
    shutil.copy(RAY, copied)

    def told() -> str:
        done = subprocess.run(
            [sys.executable, "-c", STARTS, copied], env=environment, cwd=tmp_path,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    assert told() == "10001 True"
    for _ in range(2):  # `ray up` runs it again
        subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True, timeout=20)
    assert copied.read_text().count("clients") == 1
    assert told() == "None True"


# --- the real `ray up` against a stand-in for AWS on loopback ---


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a user of a moto server: an AWS that starts no machines."""
    pytest.importorskip("boto3", reason="needs boto3")
    pytest.importorskip("moto", reason="needs moto[server]")
    home = tmp_path_factory.mktemp("home")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(home),
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "RAY_USAGE_STATS_ENABLED": "0", "NO_PROXY": "*",
    }  # fmt: skip
    code = (
        "import signal, sys; from moto.server import ThreadedMotoServer as S; "
        "s = S('127.0.0.1', 0, verbose=False); s.start(); "
        "print(*s.get_host_and_port(), flush=True); sys.stdin.read(); s.stop()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert server.stdout is not None
    host, port = server.stdout.readline().split()
    yield {**environment, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    server.communicate(timeout=30)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_up_takes_the_file_as_far_as_the_machines(aws: dict[str, str], tmp_path: Path) -> None:
    boto3 = importlib.import_module("boto3")
    where = {"region_name": "us-east-1", "endpoint_url": aws["AWS_ENDPOINT_URL"],
             "aws_access_key_id": "test", "aws_secret_access_key": "test"}  # fmt: skip
    ec2: Any = boto3.client("ec2", **where)
    image = ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["x86_64"]}])
    chosen = image["Images"][0]["ImageId"]
    text = (ROOT / "cluster.yaml").read_text().replace("ami-FILL", chosen)
    text = text.replace("bucket-FILL", "evenhand-test")
    (tmp_path / "cluster.yaml").write_text(text)
    iam: Any = boto3.client("iam", **where)
    for role in ("evenhand-head", "evenhand-worker"):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=role)
        iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
    token = subprocess.run([RAY, "get-auth-token", "--generate"], env=aws, capture_output=True)
    assert token.returncode == 0, token.stderr
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [RAY, "up", "-y", "--no-config-cache", "cluster.yaml"], cwd=tmp_path, env=aws,
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        machines: list[Any] = []
        for _ in range(240):
            found = ec2.describe_instances()["Reservations"]
            machines = [i for reservation in found for i in reservation["Instances"]]
            if machines or process.poll() is not None:
                break
            time.sleep(0.5)
        assert machines, (tmp_path / "log").read_text()
    finally:  # what would follow is SSH, to a machine that does not exist
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()
    (head,) = machines
    assert head["InstanceType"] == "m6i.large"
    assert head["ImageId"] == chosen
    assert head.get("InstanceLifecycle") != "spot"
    assert head["IamInstanceProfile"]["Arn"].endswith("/evenhand-head")
    (group,) = ec2.describe_security_groups(GroupIds=[head["SecurityGroups"][0]["GroupId"]])[
        "SecurityGroups"
    ]
    world = [rule for rule in group["IpPermissions"] if rule.get("IpRanges")]
    assert {(rule["FromPort"], rule["ToPort"]) for rule in world} == {(22, 22)}
    started = subprocess.run(
        [sys.executable, "-c", WORKER, "cluster.yaml"], cwd=tmp_path, env=aws, timeout=120,
        capture_output=True, text=True,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    every = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    (worker,) = [i for i in every if i["InstanceType"] == "g5.2xlarge"]
    assert worker["InstanceLifecycle"] == "spot"
    assert worker["ImageId"] == chosen
    assert worker["IamInstanceProfile"]["Arn"].endswith("/evenhand-worker")


@pytest.mark.slow
def test_machines_copy_the_data_sets_of_the_bucket(aws: dict[str, str], tmp_path: Path) -> None:
    """The setup command of cluster.yaml, against the bucket of a stand-in for S3."""
    boto3 = importlib.import_module("boto3")
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    s3: Any = boto3.client("s3", "us-east-1", endpoint_url=aws["AWS_ENDPOINT_URL"], **keys)
    s3.create_bucket(Bucket="evenhand-data")
    (command,) = [c for c in load(ROOT / "cluster.yaml")["setup_commands"] if "bucket-FILL" in c]
    command = command.replace("bucket-FILL", "evenhand-data").replace("~/evenhand", str(tmp_path))
    command = command.replace(".venv/bin/python", sys.executable)

    def run() -> None:
        done = subprocess.run(["bash", "-c", command], env=aws, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run()
    assert not (tmp_path / "data").exists()
    s3.put_object(Bucket="evenhand-data", Key="data/folder/metadata.csv", Body=b"id,split")
    run()
    assert (tmp_path / "data/folder/metadata.csv").read_text() == "id,split"
    s3.delete_object(Bucket="evenhand-data", Key="data/folder/metadata.csv")
    run()  # what is there is not fetched again
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# What the head's autoscaler does for a worker.
WORKER = """
import sys, yaml
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config
config = bootstrap_aws(prepare_config(yaml.safe_load(open(sys.argv[1]))))
provider = AWSNodeProvider(config["provider"], config["cluster_name"])
tags = {"ray-node-type": "worker", "ray-user-node-type": "gpu"}
provider.create_node(config["available_node_types"]["gpu"]["node_config"], tags, 1)
"""


# --- the Slurm script, with stand-ins for Slurm's commands ---

SRUN = """#!/bin/bash
# Runs a step here: all "nodes" are this machine, which `hostname` calls by loopback.
[[ " $* " == *" --cpus-per-task=1 "* ]] || { echo "no CPUs asked for" >&2; exit 1; }
while [[ $1 == --* ]]; do shift; done
if [ "$1 $2" = "hostname -I" ]; then echo "fe80::1 127.0.0.1 192.0.2.9 "; exit; fi
exec "$@"
"""


def running(mark: str) -> list[str]:
    """Command lines of processes that mention something."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if mark in words:
            found.append(words)
    return found


@pytest.mark.slow
@pytest.mark.cluster
def test_slurm_script_runs_a_study_over_its_allocation(tmp_path: Path) -> None:
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/bash\necho n1; echo n2\n")):
        (stand_ins / name).write_text(text)
        (stand_ins / name).chmod(0o755)
    number = os.getpid()
    environment = {
        "PATH": f"{stand_ins}:{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path),
        "SLURM_JOB_ID": str(number), "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_CPUS_PER_TASK": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    script = shutil.copy(ROOT / "clusters/slurm.sh", tmp_path / "slurm_script")
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["bash", script, "--method", "erm", "--dataset", "colored_digits", "--trials", "3",
             "--seeds", "1", "--epochs", "2", "--scheduler", "none", "--search", "random",
             "--results", tmp_path / "results"],
            env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        code = process.wait(timeout=180)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = log.read_text()
    assert code == 0, said
    assert "2 at once on 2 node(s)" in said
    assert (tmp_path / "results/colored_digits/table.md").exists()
    assert not list(ROOT.glob(f".ray-{number}.*"))  # the token is gone
    for _ in range(50):
        if not running(f"/tmp/ray-{number}"):
            break
        time.sleep(0.2)
    left = running(f"/tmp/ray-{number}")
    shutil.rmtree(f"/tmp/ray-{number}", ignore_errors=True)
    assert not left  # processes of Ray
