"""The manifest for KubeRay: its fields and types, and what Ray's autoscaler reads in it."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.test_files import ROOT


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
