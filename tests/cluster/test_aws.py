"""The real ``ray up`` of cluster.yaml against a stand-in for AWS on loopback."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.test_files import RAY, ROOT, load


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
