"""The Slurm script, with stand-ins for Slurm's commands."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.test_files import ROOT
from tests.support.command import UNLEARNED

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
    assert code == 0 or UNLEARNED in said, said
    assert "up to 2 trials in parallel on 2 nodes" in said
    assert (tmp_path / "results/colored_digits/table.md").exists()
    assert not list(ROOT.glob(f".ray-{number}.*"))  # the token is gone
    for _ in range(50):
        if not running(f"/tmp/ray-{number}"):
            break
        time.sleep(0.2)
    left = running(f"/tmp/ray-{number}")
    shutil.rmtree(f"/tmp/ray-{number}", ignore_errors=True)
    assert not left  # processes of Ray
