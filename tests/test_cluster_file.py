"""cluster.yaml as far as it can be checked without a cloud."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.filterwarnings("ignore")
def test_cluster_file_is_what_ray_expects() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    assert config["head_node_type"] in config["available_node_types"]
    assert {"type", "region"} <= set(config["provider"])  # which the schema does not check
    assert "ssh_user" in config["auth"]
