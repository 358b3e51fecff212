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
from tests.support.command import LOOPBACK, python
from tuning.cli.doctor import visit
from tuning.doctor import diagnosis, doctor
from tuning.doctor.diagnosis import Finding, Patient
from tuning.doctor.node_facts import (
    Facts,
    Question,
    cache,
    code_hash,
    look,
    room,
    versions,
)
from tuning.gpus import Gpu, GpuProcess, is_mps_running, list_gpus, list_mig_slices


def levels(findings: list[Finding], level: str) -> list[str]:
    return [str(finding) for finding in findings if finding.level == level]


# In a process of its own, because Ray leaves files open, which pytest would hold against the test.
VISIT = """
import os, sys, time
from pathlib import Path
from common.errors import ValidationErrors
from tests.support.command import listening
from tuning.doctor import doctor
from tuning.cluster.connection import join_cluster
dataset, folder = sys.argv[1], Path(sys.argv[2])
with join_cluster(None):
    doctor.clock = lambda: time.time() + 99  # asked on the node
    places = [str(folder / "not" / "made")]
    print(doctor.report(doctor.examine(dataset="colored_digits", places=places)))
    print("---")
    try:
        print(doctor.preflight(dataset=dataset, data_root=folder, places=[str(folder)]))
    except ValidationErrors as problems:
        print("\\n".join(problems.problems))
    print("---", *listening(os.getpid()))
"""


@pytest.mark.cluster
def test_on_this_machine(tmp_path: Path) -> None:
    done = python("-c", [VISIT, "waterbirds", tmp_path], 120)
    assert done.code == 0, done.err
    examined, preflight, addresses = done.out.split("---")
    assert "0 errors" in examined
    assert re.search(r"its clock is 9\d s off", examined)
    assert f"ok      {tmp_path} is shared by 1 node" in examined
    assert code_hash() in examined
    assert not list(tmp_path.iterdir())  # no token is left
    assert "waterbirds" in preflight
    assert "; python -m datasets.prepare waterbirds" in preflight  # what mends it
    assert addresses.split()
    assert set(addresses.split()) <= LOOPBACK  # nobody else reaches a cluster of one's own


def test_the_doctor_refuses_before_anything_starts(tmp_path: Path) -> None:
    for option, value, expected in (
        ("--storage", "s4://bucket/x", "begins with s3:// or gs://"),
        ("--storage", "/proc/xyz", "cannot write in '/proc/xyz'"),
        ("--results", "/proc/xyz", "cannot write in '/proc/xyz'"),
    ):
        with pytest.raises(UserError, match=f"{option}: .*{expected}"):
            visit(["--results", str(tmp_path), option, value])
    assert not list(tmp_path.iterdir())


def test_room_is_told_once_for_each_disk(tmp_path: Path) -> None:
    below = [str(tmp_path / "a" / "b"), str(tmp_path), "s3://bucket/x"]
    ((folder, free),) = room(below).items()
    assert folder == str(tmp_path)
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / 2**30, rel=0.1)
    assert set(room([*below, "/proc"])) == {str(tmp_path), "/proc"}


def test_the_disk_of_prepared_data_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENHAND_CACHE", raising=False)
    question = Question("t", (), str(tmp_path), "waterbirds")
    (folder,) = cache(question)
    assert Path(folder).is_relative_to(tmp_path)
    monkeypatch.setenv("EVENHAND_CACHE", "/proc/here")
    assert cache(question)[0].startswith("/proc/here/")
    assert cache(replace(question, dataset="colored_digits")) == ()
    assert "/proc" in look(question, "b", trials=True).free


# --- how answers are judged ---

HEAD = Patient("a", "head", 0, 0)
WORKER = Patient("b", "worker", 8, 1)
FINE = Facts("head", {"python": "3.11.7", "torch": "2.13.0"}, "c0ffee")


def judged(facts: Facts, asked: float = 0.25, off: float = 0.0) -> list[Finding]:
    return diagnosis.alone(WORKER, facts, Question("t", (), "/data"), True, asked, off, 1.0)


def test_other_versions_and_code_are_named_with_their_node() -> None:
    other = replace(FINE, versions={**FINE.versions, "torch": "2.12.0"}, code="deadbeef")
    answers, nodes = {"a": FINE, "b": other}, {"a": HEAD, "b": WORKER}
    (error,) = levels(diagnosis.code(answers, "a", nodes), "error")
    assert "worker: has other code" in error
    assert "ray up" in error
    (error,) = levels(diagnosis.versions(answers, "a", nodes), "error")
    assert "worker: has torch 2.12.0, the head has 2.13.0" in error
    assert not levels(diagnosis.versions({"a": FINE, "b": FINE}, "a", nodes), "error")


def test_a_place_that_is_not_shared_is_found_both_ways(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    token = here / ".evenhand-token-t-driver"
    token.touch()
    for place, word in ((there, "another folder"), (tmp_path / "absent", "does not exist")):
        question = Question("t", (str(place),), "/data")
        answers = {"b": look(question, "b", trials=False)}
        (error,) = diagnosis.shared(question, [WORKER], answers)
        assert word in error.what
        assert "--storage" in error.mend
    question = Question("t", (str(here),), "/data")
    answers = {"b": look(question, "b", trials=False)}
    assert diagnosis.shared(question, [WORKER], answers)[0].level == "ok"
    (here / ".evenhand-token-t-b").unlink()  # the node's own writes do not arrive
    (error,) = diagnosis.shared(question, [WORKER], answers)
    assert "not seen on the head" in error.what


def test_clock_disk_and_gpus() -> None:
    assert "clock" not in str(judged(FINE, off=1.9))
    assert "3 s off" in str(levels(judged(FINE, off=3.0), "warning"))
    (error,) = levels(judged(replace(FINE, free={"/mnt/shared": 0.1})), "error")
    assert "/mnt/shared has 0.1 GiB" in error
    assert "GPUs: Ray counts 1, NVIDIA's driver 0" in str(levels(judged(FINE), "warning"))
    full = Gpu("A10G", 24.0, 2.0, ())
    assert "may take 6.0 GiB and 2.0 are free" in str(judged(replace(FINE, gpus=(full,))))
    assert "may take" not in str(judged(replace(FINE, gpus=(full,)), 0.05))
    orphan = Gpu("A10G", 24.0, 2.0, (GpuProcess(4711, "ray::TrialActor", True, 22.0),))
    (error,) = levels(judged(replace(FINE, gpus=(orphan,))), "error")
    assert "kill -9 4711" in error


# As NVIDIA's guide to MIG shows `nvidia-smi -L`: one GPU cut into three, one whole; and in the form
# of drivers before R470.
MIG = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb      Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
  MIG 1g.5gb      Device  2: (UUID: MIG-GPU-1/9/0)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)
"""
QUERIED = "GPU-1, NVIDIA A100-SXM4-40GB, 40960, 0\nGPU-2, NVIDIA A100-SXM4-40GB, 40960, 0"


def stand_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, listed: str, queried: str = "", held: str = ""
) -> None:
    """Put a stand-in for NVIDIA's program in front, which prints this for its three questions."""
    for name, text in (("listed", listed), ("queried", queried), ("held", held)):
        (folder / name).write_text(text + "\n")
    nvidia = folder / "nvidia-smi"
    nvidia.write_text(
        "#!/bin/bash\ncase $1 in\n"
        f"-L) cat {folder}/listed;;\n"
        f"*query-gpu*) cat {folder}/queried;;\n"
        f"*) cat {folder}/held;;\nesac\n"
    )
    nvidia.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_mig_slices_count_as_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, MIG, QUERIED)
    assert [len(slices) for slices in list_mig_slices().values()] == [3, 0]
    assert list_mig_slices()["GPU-1"][2] == ("1g.5gb", "MIG-GPU-1/9/0")
    cut, whole = list_gpus()
    assert cut.slices == ("3g.20gb", "1g.5gb", "1g.5gb")
    assert whole.slices == ()
    facts = replace(FINE, gpus=(cut, whole))
    assert facts.devices == 4

    def of(counted: float) -> list[Finding]:
        node = Patient("b", "worker", 8, counted)
        return diagnosis.alone(node, facts, Question("t", (), "/data"), True, 1, 0.0, 1.0)

    found = of(4)
    assert {finding.level for finding in found} == {"ok"}
    told = "3 MIG slices, each a GPU of its own: 1 3g.20gb (20 GB of memory), 2 1g.5gb (5 GB of"
    assert told in str(found[0])
    (warning,) = levels(of(2), "warning")
    assert "Ray counts 2, NVIDIA's driver 4 with MIG slices" in warning
    assert "CUDA_VISIBLE_DEVICES=$(nvidia-smi -L" in warning
    assert "--num-gpus=4" in warning
    (error,) = levels(of(5), "error")
    assert "Ray counts 5, NVIDIA's driver 4" in error


def test_the_command_that_mends_lists_the_slices(
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
    on, off = (judged(replace(FINE, gpus=(gpu,), mps=mps)) for mps in (True, False))
    assert "MPS is on" in doctor.report(on)
    assert "kill" not in doctor.report(on)
    assert "MPS is off" in doctor.report(off)
    assert "nvidia-cuda-mps-control -d" in doctor.report(off)
    assert "MPS is off" not in doctor.report(judged(replace(FINE, gpus=(gpu,)), 1))
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
    while Path(f"/proc/{process}/comm").read_text().strip() != "sleep":
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
    assert versions()["no-such-package"] == "absent"
