"""The doctor: what it finds on a real Ray cluster of this machine, and how answers are judged."""

import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.command import LOOPBACK, run_python
from tests.support.nvidia_smi import MIG, stand_in
from tuning.cli.doctor import run_doctor
from tuning.doctor import findings
from tuning.doctor.findings import Finding, check_node, check_shared_storage, format_report
from tuning.doctor.node_facts import (
    NodeFacts,
    Requirements,
    collect_facts,
    find_caches,
    list_versions,
    measure_free_space,
)
from tuning.doctor.run_checks import delete_test_files
from tuning.gpus import Gpu, GpuProcess, is_mps_running, list_gpus, list_mig_slices
from tuning.resources import Node


def levels(findings: list[Finding], level: str) -> list[str]:
    return [str(finding) for finding in findings if finding.level == level]


# In a process of its own, because Ray leaves files open, which pytest would hold against the test.
CHECKS = """
import os, sys, time
from pathlib import Path
from common.errors import ValidationErrors
from tests.support.command import list_listening_addresses
from tuning.cluster.connection import join_cluster
from tuning.doctor import ask_nodes, run_checks
from tuning.doctor.findings import format_report
from tuning.doctor.node_facts import Requirements
dataset, folder = sys.argv[1], Path(sys.argv[2])
results = Path("results")
with join_cluster(None) as nodes:
    ask_nodes.read_clock = lambda: time.time() + 99  # asked on the node
    needs = Requirements("colored_digits", storages=("/proc/none", str(folder / "not" / "made")))
    print(format_report(run_checks.check_cluster(needs, results)))
    print("---")
    try:
        needs = Requirements(dataset, str(folder), (str(folder),))
        print(run_checks.preflight_check(needs, results, single_machine=False))
    except ValidationErrors as problems:
        print("\\n".join(problems.problems))
    print("---", *list_listening_addresses(os.getpid()))
    ask_nodes.collect_facts = lambda *arguments: time.sleep(60)
    ask_nodes.TIMEOUT_SECONDS = 1.0
    for timeout in (1.0, 0.5):  # of the second, half a second is left to wait
        ask_nodes.ask_nodes(Requirements(), "t", nodes, {nodes[0].id: True}, timeout)
"""


@pytest.mark.cluster
def test_on_this_machine(tmp_path: Path) -> None:
    done = run_python("-c", [CHECKS, "waterbirds", tmp_path], 120)
    assert done.code == 0, done.err
    examined, preflight, addresses = done.out.split("---")
    assert "1 errors" in examined
    assert (
        "error   head: cannot write in /proc: " in examined
    )  # and the rest is checked all the same
    assert re.search(r"clock differs from the head's by 9\d s", examined)
    assert f"ok      {tmp_path} is shared by 1 node" in examined
    assert not list(tmp_path.iterdir())  # no token is left
    assert "waterbirds" in preflight
    assert "; python -m datasets.prepare waterbirds" in preflight  # the fix
    assert done.err.count("still waiting") == 1
    assert addresses.split()
    assert set(addresses.split()) <= LOOPBACK  # nobody else reaches a cluster of one's own


def test_the_doctor_refuses_before_anything_starts(tmp_path: Path) -> None:
    for option, value, expected in (
        ("--storage", "s4://bucket/x", "begins with s3:// or gs://"),
        ("--storage", "/proc/xyz", "cannot write in '/proc/xyz'"),
        ("--results", "/proc/xyz", "cannot write in '/proc/xyz'"),
    ):
        with pytest.raises(UserError, match=f"{option}: .*{expected}"):
            run_doctor(["--results", str(tmp_path), option, value])
    assert not list(tmp_path.iterdir())


def test_free_space_is_reported_once_for_each_disk(tmp_path: Path) -> None:
    below = [str(tmp_path / "a" / "b"), str(tmp_path), "s3://bucket/x"]
    ((folder, free),) = measure_free_space(below).items()
    assert folder == str(tmp_path)
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / 2**30, rel=0.1)
    assert set(measure_free_space([*below, "/proc"])) == {str(tmp_path), "/proc"}


def test_the_disk_of_prepared_data_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENHAND_CACHE", raising=False)
    needs = Requirements("waterbirds", str(tmp_path))
    (folder,) = find_caches(needs)
    assert Path(folder).is_relative_to(tmp_path)
    monkeypatch.setenv("EVENHAND_CACHE", "/proc/here")
    assert find_caches(needs)[0].startswith("/proc/here/")
    assert find_caches(replace(needs, dataset="colored_digits")) == ()
    assert "/proc" in collect_facts(needs, "t", "b", runs_trials=True).free_gib


def test_a_test_file_that_stays_hinders_no_other(tmp_path: Path) -> None:
    (tmp_path / ".evenhand-token-t-a").mkdir()  # cannot be deleted like a file
    (tmp_path / ".evenhand-token-t-b").touch()
    delete_test_files(str(tmp_path), "t", ["a", "b", "c"])
    assert [path.name for path in tmp_path.iterdir()] == [".evenhand-token-t-a"]


# --- how answers are judged ---

WORKER = Node("worker", 8, 1, "b")
FINE = NodeFacts("head", {"python": "3.11.7", "torch": "2.13.0"})


def check(facts: NodeFacts, gpus: float = 0.25, skew: float = 0.0) -> list[Finding]:
    return check_node(WORKER, facts, Requirements(gpus=gpus), True, skew, 1.0)


def test_other_versions_are_named_with_their_node() -> None:
    other = replace(FINE, host="worker", versions={**FINE.versions, "torch": "2.12.0"})
    facts = {"a": FINE, "b": other}
    (error,) = levels(findings.check_versions(facts, "a"), "error")
    assert "worker: has torch 2.12.0, the head has 2.13.0" in error
    assert not levels(findings.check_versions({"a": FINE, "b": FINE}, "a"), "error")


def test_a_place_that_is_not_shared_is_found_both_ways(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    token = here / ".evenhand-token-t-driver"
    token.touch()
    for place, word in ((there, "another folder"), (tmp_path / "absent", "does not exist")):
        needs = Requirements(storages=(str(place),))
        facts = {"b": collect_facts(needs, "t", "b", runs_trials=False)}
        (error,) = check_shared_storage(needs, "t", [WORKER], facts)
        assert word in error.message
        assert "--storage" in error.fix
    needs = Requirements(storages=(str(here),))
    facts = {"b": collect_facts(needs, "t", "b", runs_trials=False)}
    assert check_shared_storage(needs, "t", [WORKER], facts)[0].level == "ok"
    (here / ".evenhand-token-t-b").unlink()  # the node's own writes do not arrive
    (error,) = check_shared_storage(needs, "t", [WORKER], facts)
    assert "not visible on the head" in error.message


def test_clock_disk_and_gpus() -> None:
    assert "clock" not in str(check(FINE, skew=1.9))
    assert "by 3 s" in str(levels(check(FINE, skew=3.0), "warning"))
    (error,) = levels(check(replace(FINE, free_gib={"/mnt/shared": 0.1})), "error")
    assert "/mnt/shared has 0.1 GiB" in error
    assert "GPUs: Ray counts 1, NVIDIA's driver 0" in str(levels(check(FINE), "warning"))
    full = Gpu("A10G", 24.0, 2.0, ())
    assert "may use 6.0 GiB and 2.0 are free" in str(check(replace(FINE, gpus=(full,))))
    assert "may use" not in str(check(replace(FINE, gpus=(full,)), 0.05))
    orphan = Gpu("A10G", 24.0, 2.0, (GpuProcess(4711, "ray::TrialActor", True, 22.0),))
    (error,) = levels(check(replace(FINE, gpus=(orphan,))), "error")
    assert "kill -9 4711" in error


QUERIED = "GPU-1, NVIDIA A100-SXM4-40GB, 40960, 0\nGPU-2, NVIDIA A100-SXM4-40GB, 40960, 0"


def test_mig_slices_count_as_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, MIG, QUERIED)
    assert [len(slices) for slices in list_mig_slices().values()] == [3, 0]
    assert list_mig_slices()["GPU-1"][2] == ("1g.5gb", "MIG-GPU-1/9/0")
    cut, whole = list_gpus()
    assert cut.slices == ("3g.20gb", "1g.5gb", "1g.5gb")
    assert whole.slices == ()
    facts = replace(FINE, gpus=(cut, whole))
    assert facts.device_count == 4

    def of(counted: float) -> list[Finding]:
        node = Node("worker", 8, counted, "b")
        return check_node(node, facts, Requirements(gpus=1), True, 0.0, 1.0)

    found = of(4)
    assert {finding.level for finding in found} == {"ok"}
    listed = "3 MIG slices, each a GPU of its own: 1 3g.20gb (20 GB of memory), 2 1g.5gb (5 GB of"
    assert listed in str(found[0])
    (warning,) = levels(of(2), "warning")
    assert "Ray counts 2, NVIDIA's driver 4 with MIG slices" in warning
    assert "CUDA_VISIBLE_DEVICES=$(nvidia-smi -L" in warning
    assert "--num-gpus=4" in warning
    (error,) = levels(of(5), "error")
    assert "Ray counts 5, NVIDIA's driver 4" in error


def test_the_command_of_the_fix_lists_the_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, MIG)
    done = subprocess.run(
        ["bash", "-c", "nvidia-smi -L | grep -o 'MIG-[^)]*' | paste -sd,"],
        capture_output=True, text=True, check=True, timeout=10,
    )  # fmt: skip
    assert done.stdout.strip().split(",") == [uuid for _, uuid in list_mig_slices()["GPU-1"]]


def test_whether_trials_on_a_gpu_take_turns(tmp_path: Path) -> None:
    gpu = Gpu("A10G", 24.0, 24.0, (GpuProcess(1, "nvidia-cuda-mps-server", False, 0.1),))
    on, off = (check(replace(FINE, gpus=(gpu,), mps=mps)) for mps in (True, False))
    assert "MPS is on" in format_report(on)
    assert "kill" not in format_report(on)
    assert "MPS is off" in format_report(off)
    assert "nvidia-cuda-mps-control -d" in format_report(off)
    assert "MPS is off" not in format_report(check(replace(FINE, gpus=(gpu,)), 1))
    program = tmp_path / "nvidia-cuda-mps-control"
    program.symlink_to("/bin/sleep")
    assert not is_mps_running()
    process = subprocess.Popen([program, "30"])
    try:
        for _ in range(100):
            if is_mps_running():
                break
            time.sleep(0.05)
        assert is_mps_running()
    finally:
        process.kill()
        process.wait()


def test_orphans_are_found_by_their_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for NVIDIA's program that lists a process which lost its parent."""
    number = tmp_path / "number"
    inner = f"echo $$ > {number}; exec -a ray::TrialActor sleep 60"
    subprocess.run(
        ["bash", "-c", f"setsid bash -c '{inner}' > /dev/null 2>&1 &"], check=True, timeout=10
    )
    for _ in range(100):
        if number.exists() and number.read_text().strip():
            break
        time.sleep(0.05)
    process = int(number.read_text())
    while Path(f"/proc/{process}/comm").read_text(encoding="utf-8").strip() != "sleep":
        time.sleep(0.05)
    queried = "GPU-1, NVIDIA A10G, 24576, 12288"
    held = f"GPU-1, {process}, 12288\nGPU-1, {os.getpid()}, [N/A]"
    stand_in(tmp_path, monkeypatch, "", queried, held)
    try:
        (gpu,) = list_gpus()
    finally:
        os.kill(process, 9)
    assert (gpu.name, gpu.gib, gpu.free_gib) == ("NVIDIA A10G", 24, 12)
    dead, alive = gpu.processes
    assert (dead.pid, dead.orphan, dead.gib) == (process, True, 12)
    assert not alive.orphan
    assert alive.gib == 0


def test_versions_tell_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.doctor.node_facts.PACKAGES", ("numpy", "no-such-package"))
    assert list_versions()["no-such-package"] == "absent"
