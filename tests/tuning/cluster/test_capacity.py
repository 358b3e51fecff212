"""A study whose Ray died ends; tests/cluster holds that slots follow an autoscaler."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command import ROOT, clean_environment, list_descendants

pytestmark = pytest.mark.study


@pytest.mark.slow
def test_a_study_whose_ray_died_ends(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "tune.py", "--method", "erm", "--dataset", "colored_digits",
             "--trials", "4", "--epochs", "400", "--scheduler", "none",
             "--results", tmp_path / "results"],
            cwd=ROOT, env=clean_environment(), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        for _ in range(600):
            if list(tmp_path.rglob("rows.json")) or process.poll() is not None:
                break
            time.sleep(0.2)
        family = list_descendants(process.pid)
        names = {n: Path(f"/proc/{n}/comm").read_text(encoding="utf-8").strip() for n in family}
        (raylet,) = [number for number, name in names.items() if name == "raylet"]
        os.kill(raylet, signal.SIGKILL)
        assert process.wait(timeout=90) == 2
    finally:
        for number in list_descendants(process.pid) if process.poll() is None else []:
            os.kill(number, signal.SIGKILL)
        process.wait()
    said = (tmp_path / "log").read_text()
    assert "raylet) died" in said
    assert "run the same command with --resume" in said
