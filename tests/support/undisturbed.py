"""A study that ran in one go, made once for all tests that hold another against it.

Each study starts Ray, which takes some ten seconds: hence one for all.
"""

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from filelock import FileLock

from tests.support.command import run_tune

_COMMON = [
    "--dataset", "colored_digits", "--search", "random", "--scheduler", "none", "--trials", "3",
    "--seeds", "3", "--epochs", "6", "--keep-models",
]  # fmt: skip
ERM = ["--method", "erm", *_COMMON]  # either method alone
JTT = ["--method", "jtt", "--set", "T=2", "--set", "up=6", *_COMMON]
STUDY = ["--method", "erm", *JTT[1:]]  # and both
RUNS = 12  # of both: three trials and three seeds each
TIMES = ["seconds", "device_hours"]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first process of the test run which needs it makes for all.

    Args:
        factory: Where.
        name: The folder's name.
        make: Makes what the empty folder is to hold.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # which the run's processes have in common
    folder, made = root / name, root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a making that failed
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of ``STUDY``, beside its records; nobody changes them."""

    def make(folder: Path) -> None:
        done = run_tune([*STUDY, "--results", folder / "results"], parallel=True)
        assert done.ran_to_end, done.err

    return once(tmp_path_factory, "undisturbed", make) / "results"


def exported(results: Path, *methods: str) -> dict[str, Any]:
    """Return all exported numbers that do not depend on the clock, and the weights."""
    found: dict[str, Any] = {}
    for method in methods:
        folder = results / "colored_digits" / method
        best = yaml.safe_load((folder / "best_config.yaml").read_text())
        best.pop("provenance")
        found[method] = {
            "best": best,
            "trials": pd.read_csv(folder / "trials.csv").drop(columns=TIMES).to_dict("list"),
            "seeds": pd.read_csv(folder / "seeds.csv").drop(columns=TIMES).to_dict("list"),
            "weights": sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        }
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]
