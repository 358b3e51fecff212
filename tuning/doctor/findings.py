"""Findings of the doctor: the nodes' facts checked, each finding with its fix."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tuning.doctor.node_facts import TEST_FILE, NodeFacts, Requirements
from tuning.gpus import MPS_PROCESS, Gpu
from tuning.records.open_storage import open_storage
from tuning.records.storage import describe_error, is_url
from tuning.resources import GPU_SHARES, Node, format_devices

MAX_CLOCK_SKEW_SECONDS = 2.0
LOW_DISK_GIB = 5.0  # free disk space that deserves a warning
FULL_DISK_GIB = 0.5  # free disk space with which a study soon fails

Level = Literal["error", "warning", "ok"]
# The levels, the worst first, as words after a count.
LEVELS: Mapping[Level, str] = {"error": "errors", "warning": "warnings", "ok": "ok"}


@dataclass(frozen=True)
class Finding:
    """A finding of the doctor.

    Args:
        level: ``error`` if it makes a study fail, ``warning``, or ``ok``.
        node: The node; empty where it concerns all.
        message: The finding.
        fix: The command that fixes it, or instructions.
    """

    level: Level
    node: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        """Return a line, and a second with the fix."""
        where = f"{self.node}: " if self.node else ""
        fix = f"\n        -> {self.fix}" if self.fix else ""
        return f"{self.level:8}{where}{self.message}{fix}"


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings with errors first."""
    levels = list(LEVELS)
    return sorted(findings, key=lambda finding: levels.index(finding.level))


def format_report(findings: Sequence[Finding]) -> str:
    """Return the findings and their counts as text."""
    count = Counter(finding.level for finding in findings)
    last = ", ".join(f"{count[level]} {words}" for level, words in LEVELS.items())
    return "\n".join([*map(str, findings), last])


def _format_nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def check_shared_storage(
    requirements: Requirements, token: str, nodes: Sequence[Node], facts: Mapping[str, NodeFacts]
) -> list[Finding]:
    """Check that all nodes share each storage with the head, by test files of both."""
    findings = []
    for storage in requirements.storages:
        opened = open_storage(storage).with_short_timeouts()
        fix = "mount the same file system on all nodes and pass it as --storage"
        if is_url(storage):
            fix = "grant all nodes access: a role of the machines, or ~/.aws/credentials"
        errors = []
        for node in (node for node in nodes if node.id in facts):
            reason = facts[node.id].storage_errors.get(storage, "")
            try:
                if not reason and not opened.exists(f"{TEST_FILE}{token}-{node.id}"):
                    reason = "its test file is not visible on the head"
            except OSError as error:
                reason = f"the head cannot read it: {describe_error(error)}"
            if reason:
                message = f"{storage} is not shared with the head: {reason}"
                errors.append(Finding("error", node.name, message, fix))
        shared = Finding("ok", "", f"{storage} is shared by {_format_nodes(len(facts))}")
        findings += errors or [shared]
    return findings


def check_versions(facts: Mapping[str, NodeFacts], own: str) -> list[Finding]:
    """Check that all nodes have the head's versions.

    Args:
        facts: The facts of each node.
        own: The head's id.
    """
    if own not in facts:
        return []
    fix = "on the node: cd ~/evenhand && rm -rf .venv && make install"
    findings, same = [], []
    for name, mine in facts[own].versions.items():
        different = [node for node in facts.values() if node.versions[name] != mine]
        if not different:
            same.append(f"{name} {mine}")
        for node in different:
            message = f"has {name} {node.versions[name]}, the head has {mine}"
            findings.append(Finding("error", node.host, message, fix))
    return [*findings, Finding("ok", "", f"{', '.join(same)} on all {_format_nodes(len(facts))}")]


def check_node(
    node: Node,
    facts: NodeFacts,
    requirements: Requirements,
    runs_trials: bool,
    clock_skew: float = 0.0,
    seconds: float = 0.0,
) -> list[Finding]:
    """Check the facts about one node.

    Args:
        node: The node.
        facts: Its facts.
        requirements: The needs of the study.
        runs_trials: Whether it can hold trials.
        clock_skew: Seconds by which its clock differs, at least.
        seconds: Seconds until all nodes had answered.
    """
    host = facts.host
    prepare = f"python -m datasets.prepare {shlex.quote(requirements.dataset)} --data-root "
    prepare += shlex.quote(requirements.data_root)
    findings = [Finding("error", host, e, f"{prepare} --download") for e in facts.data_errors]
    findings += [Finding("error", host, error) for error in facts.model_errors]
    if facts.prepared is False:
        message = f"{requirements.dataset} is not prepared: the first trial will prepare it"
        findings.append(Finding("warning", host, message, prepare))
    if clock_skew > MAX_CLOCK_SKEW_SECONDS:
        message = f"clock differs from the head's by {clock_skew:.0f} s"
        fix = "on the node: sudo timedatectl set-ntp true"
        findings.append(Finding("warning", host, message, fix))
    findings += check_disks(host, facts.free_gib)
    findings += _check_gpu_count(host, node, facts)
    findings += _check_mps(host, facts, requirements.gpus)
    for index, gpu in enumerate(facts.gpus):
        findings += _check_gpu(host, index, gpu, requirements.gpus)
    if all(finding.level == "ok" for finding in findings):
        role = format_devices(node.cpus, node.gpus) if runs_trials else "no trials"
        findings.append(Finding("ok", host, f"all nodes answered within {seconds:.1f} s; {role}"))
    return findings


def check_disks(host: str, free_gib: Mapping[str, float]) -> list[Finding]:
    """Check the free disk space of folders, in GiB."""
    fix = "delete unneeded files, such as old *.records; python tune.py clean lists others"
    findings = []
    for folder, free in free_gib.items():
        if free < LOW_DISK_GIB:
            level: Level = "error" if free < FULL_DISK_GIB else "warning"
            findings.append(Finding(level, host, f"{folder} has {free:.1f} GiB left", fix))
    return findings


def _check_gpu_count(host: str, node: Node, facts: NodeFacts) -> list[Finding]:
    message = f"GPUs: Ray counts {node.gpus:g}, NVIDIA's driver {facts.device_count}"
    if node.gpus > facts.device_count:
        level: Level = "error" if facts.gpus else "warning"
        fix = "on the node: nvidia-smi; without a GPU, trials run on the CPU"
        return [Finding(level, host, message, fix)]
    if 0 < node.gpus < facts.device_count and any(gpu.slices for gpu in facts.gpus):
        fix = (
            "on the node: ray stop; export CUDA_VISIBLE_DEVICES=$(nvidia-smi -L | grep -o "
            "'MIG-[^)]*' | paste -sd,); then ray start with --num-gpus="
            f"{facts.device_count}"
        )
        return [Finding("warning", host, f"{message} with MIG slices, each a GPU of its own", fix)]
    return []


def _check_mps(host: str, facts: NodeFacts, gpus: float) -> list[Finding]:
    if facts.gpus and facts.mps:
        message = "MPS is on: trials that share a GPU compute at the same time"
        return [Finding("ok", host, message)]
    if facts.gpus and 0 < gpus < 1:
        message = "MPS is off: trials that share a GPU take turns"
        fix = "on the node, before Ray starts: nvidia-cuda-mps-control -d"
        return [Finding("ok", host, message, fix)]
    return []


def _check_gpu(host: str, index: int, gpu: Gpu, gpus: float) -> list[Finding]:
    findings = [Finding("ok", host, _describe_gpu(index, gpu)), *_check_processes(host, index, gpu)]
    needed = min(gpus, 1.0) * gpu.gib
    if 0 < gpu.free_gib < needed and not gpu.slices:
        message = f"GPU {index}: a trial may use {needed:.1f} GiB and {gpu.free_gib:.1f} are free"
        fix = "lower --gpus-per-trial, or free the GPU's memory"
        findings.append(Finding("warning", host, message, fix))
    return findings


def _describe_gpu(index: int, gpu: Gpu) -> str:
    start = f"GPU {index} {gpu.name}: {gpu.free_gib:.1f} of {gpu.gib:.1f} GiB free; "
    if gpu.slices:
        counts = Counter(gpu.slices)
        listed = ", ".join(
            f"{n} {profile} ({_mig_memory(profile)})" for profile, n in counts.items()
        )
        return f"{start}{len(gpu.slices)} MIG slices, each a GPU of its own: {listed}"
    shares = ", ".join(f"{s:g}: {int(1 / s)} of {gpu.gib * s:.1f} GiB" for s in GPU_SHARES)
    return f"{start}trials by --gpus-per-trial {shares}"


def _check_processes(host: str, index: int, gpu: Gpu) -> list[Finding]:
    findings = []
    for process in gpu.processes:
        message = f"GPU {index}: process {process.pid} holds {process.gib:.1f} GiB"
        if process.orphan:
            message += f" and is left over from a Ray that has ended ({process.command})"
            fix = f"on the node: kill -9 {process.pid}"
            findings.append(Finding("error", host, message, fix))
        elif not process.command.startswith("ray::") and MPS_PROCESS not in process.command:
            fix = f"if it is yours and no longer needed, on the node: kill {process.pid}"
            findings.append(Finding("warning", host, f"{message} ({process.command})", fix))
    return findings


def _mig_memory(profile: str) -> str:
    """Return the memory that the name of a MIG profile such as ``1g.5gb`` contains."""
    match = re.search(r"(\d+)gb", profile)
    return f"{match.group(1)} GB of memory" if match else "memory unknown"
