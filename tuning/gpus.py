"""The GPUs of this machine, as NVIDIA's driver reports them. Independent of Ray and torch."""

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MPS_PROCESS = "nvidia-cuda-mps"  # how the names of its processes begin, as far as Linux shows them
COMMAND_LENGTH = 80  # characters of a process's command line that are kept


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory of a GPU.

    Args:
        pid: Its process number.
        command: The beginning of its command line.
        orphan: Whether it is a worker of Ray whose raylet has ended.
        gib: Memory that it holds.
    """

    pid: int
    command: str
    orphan: bool
    gib: float


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Args:
        name: Its model.
        gib: Its memory.
        free_gib: Its free memory.
        processes: The processes that hold memory of it.
        slices: The profile of each MIG slice, such as ``1g.5gb``, where it has any.
    """

    name: str
    gib: float
    free_gib: float
    processes: tuple[GpuProcess, ...]
    slices: tuple[str, ...] = ()


def list_gpus() -> tuple[Gpu, ...]:
    """Return this machine's GPUs; none where there is no driver."""
    listed = _query("--query-gpu=uuid,name,memory.total,memory.used")
    held = _query("--query-compute-apps=gpu_uuid,pid,used_memory")
    cut = {gpu: tuple(profile for profile, _ in s) for gpu, s in list_mig_slices().items()}
    found = []
    for uuid, name, total, used in (row for row in listed if len(row) == 4):
        own = [row for row in held if len(row) == 3 and row[0] == uuid]
        processes = tuple(_describe_process(int(pid), _to_gib(memory)) for _, pid, memory in own)
        free = _to_gib(total) - _to_gib(used)
        found.append(Gpu(name, _to_gib(total), free, processes, cut.get(uuid, ())))
    return tuple(found)


def list_mig_slices() -> dict[str, list[tuple[str, str]]]:
    """Return this machine's GPUs by UUID, each with profile and UUID of its MIG slices, if any."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in _run_nvidia_smi("-L").splitlines():
        if gpu := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            found[gpu.group(1)] = []
        elif cut := re.match(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)", line):
            found[next(reversed(found))].append((cut.group(1), cut.group(2)))
    return found


def is_mps_running() -> bool:
    """Return whether NVIDIA's Multi-Process Service runs here."""
    for name in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it ended meanwhile
            if name.read_text().startswith(MPS_PROCESS):
                return True
    return False


def _query(query: str) -> list[list[str]]:
    answer = _run_nvidia_smi(query, "--format=csv,noheader,nounits")
    return [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line]


def _run_nvidia_smi(*arguments: str) -> str:
    """Return the output of the driver's program; nothing where there is none."""
    command = ["nvidia-smi", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _to_gib(mebibytes: str) -> float:
    """Return GiB of the driver's MiB; 0 where it reports none ("[N/A]")."""
    try:
        return float(mebibytes) / 1024
    except ValueError:
        return 0.0


def _describe_process(pid: int, gib: float) -> GpuProcess:
    """Return a process that holds memory; Ray's worker is an orphan if its parent is no raylet."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        parent = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
        parent_name = Path(f"/proc/{parent}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return GpuProcess(pid, "?", False, gib)
    command = words.decode(errors="replace").strip()
    orphan = command.startswith("ray::") and parent_name != "raylet"
    return GpuProcess(pid, command[:COMMAND_LENGTH], orphan, gib)
