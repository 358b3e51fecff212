"""What a cluster's nodes answered, judged: findings, and the command that mends each."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuning.doctor.node_facts import MARK, Facts, Question
from tuning.gpus import MPS_PROCESS, Gpu
from tuning.records.open_storage import open_storage
from tuning.records.storage import is_url
from tuning.resources import GPU_SHARES, format_devices

SKEW = 2.0  # seconds by which a clock may differ
LITTLE = 5.0  # GiB of free disk that deserve a warning
NOTHING = 0.5  # GiB of free disk with which no study gets far


@dataclass(frozen=True)
class Finding:
    """Something the doctor found.

    Args:
        level: ``ok``, ``warning``, or ``error`` for what makes a study fail.
        node: Where; empty where it concerns all.
        what: What is so.
        mend: The command that mends it, or what to do.
    """

    level: str
    node: str
    what: str
    mend: str = ""

    def __str__(self) -> str:
        """Return a line, and a second with what mends it."""
        where = f"{self.node}: " if self.node else ""
        return f"{self.level:8}{where}{self.what}" + (
            f"\n        -> {self.mend}" if self.mend else ""
        )


@dataclass(frozen=True)
class Patient:
    """A node to examine: Ray's name of it, its host name, its CPUs and GPUs as Ray counts them."""

    node: str
    host: str
    cpus: float
    gpus: float


def counted(nodes: int) -> str:
    """Return how many nodes, as a message says it."""
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def shared(
    question: Question, nodes: Sequence[Patient], answers: dict[str, Facts]
) -> list[Finding]:
    """Return which nodes do not share a place with the head, by tokens written both ways."""
    found = []
    for where in question.places:
        good = True
        mend = "mount the same file system on all nodes and name it with --storage"
        if is_url(where):
            mend = "give all nodes the right to it: a role of the machines, or ~/.aws/credentials"
        for node in (n for n in nodes if n.node in answers):
            why = answers[node.node].unseen.get(where, "")
            if not why and not open_storage(where).with_short_timeouts().exists(
                f"{MARK}{question.token}-{node.node}"
            ):
                why = "what it writes is not seen on the head"
            if why:
                good = False
                what = f"does not share {where} with the head: {why}"
                found.append(Finding("error", node.host, what, mend))
        if good:
            found.append(Finding("ok", "", f"{where} is shared by {counted(len(answers))}"))
    return found


def code(answers: dict[str, Facts], own: str, nodes: dict[str, Patient]) -> list[Finding]:
    """Return which nodes have other code than the head."""
    return _same(answers, own, nodes, lambda facts: facts.code, "code", _code_differs)


def _code_differs(mine: str, other: str) -> tuple[str, str]:
    return (
        f"has other code of the project ({other}; the head has {mine})",
        "ray up --no-config-cache FILE, which copies it again",
    )


def _same(
    answers: dict[str, Facts],
    own: str,
    nodes: dict[str, Patient],
    value: Callable[[Facts], str],
    name: str,
    told: Callable[[str, str], tuple[str, str]],
) -> list[Finding]:
    """Compare a value of all nodes with the head's."""
    if own not in answers:
        return []
    mine = value(answers[own])
    others = {node: value(facts) for node, facts in answers.items() if value(facts) != mine}
    if not others:
        return [Finding("ok", "", f"{name}: {mine} on all {counted(len(answers))}")]
    return [
        Finding("error", nodes[node].host, *told(mine, other)) for node, other in others.items()
    ]


def versions(answers: dict[str, Facts], own: str, nodes: dict[str, Patient]) -> list[Finding]:
    """Return which nodes have other versions than the head."""
    names = answers[own].versions if own in answers else {}
    found = []
    for name in names:

        def told(mine: str, other: str, name: str = name) -> tuple[str, str]:
            mend = "on it: cd ~/evenhand && rm -rf .venv && make install"
            return f"has {name} {other}, the head has {mine}", mend

        def value(facts: Facts, name: str = name) -> str:
            return facts.versions[name]

        found += _same(answers, own, nodes, value, name, told)
    good = [f for f in found if f.level == "ok"]
    bad = [f for f in found if f.level != "ok"]
    told_once = ", ".join(finding.what.partition(" on all")[0].replace(":", "") for finding in good)
    return [*bad, Finding("ok", "", f"{told_once} on all {counted(len(answers))}")]


def alone(
    node: Patient,
    facts: Facts,
    question: Question,
    trials: bool,
    gpus: float,
    off: float,
    spent: float,
) -> list[Finding]:
    """Return what a node's own answer shows.

    Args:
        node: The node.
        facts: Its answer.
        question: What was asked.
        trials: Whether it can hold trials.
        gpus: Share of a GPU, or GPUs, of a trial.
        off: Seconds by which its clock is off, at least.
        spent: Seconds until all nodes had answered.
    """
    host = facts.host
    found = [Finding("error", host, problem, "python -m datasets.prepare "
                     f"{question.dataset} --data-root {question.data_root} --download")
             for problem in facts.data]  # fmt: skip
    found += [Finding("error", host, problem) for problem in facts.models]
    if facts.cached is False:
        found.append(
            Finding(
                "warning", host, f"{question.dataset} is not prepared: a first trial does it",
                f"python -m datasets.prepare {question.dataset} --data-root {question.data_root}",
            )
        )  # fmt: skip
    if off > SKEW:
        found.append(
            Finding("warning", host, f"its clock is {off:.0f} s off",
                    "on it: sudo timedatectl set-ntp true")
        )  # fmt: skip
    found += disks(host, facts.free)
    found += _gpu_count(host, node, facts)
    if facts.gpus and facts.mps:
        what = "MPS is on: trials that share a GPU compute at the same time"
        found.append(Finding("ok", host, what))
    elif facts.gpus and 0 < gpus < 1:
        what = "MPS is off: trials that share a GPU take turns"
        found.append(Finding("ok", host, what, "on it, before Ray: nvidia-cuda-mps-control -d"))
    for index, gpu in enumerate(facts.gpus):
        found += _gpu(host, index, gpu, gpus)
    if not [f for f in found if f.level != "ok"]:
        role = format_devices(node.cpus, node.gpus) if trials else "no trials"
        found.append(Finding("ok", host, f"answers, in {spent:.1f} s with the others; {role}"))
    return found


def disks(host: str, room: dict[str, float]) -> list[Finding]:
    """Return which folders' disks are nearly full, by their free GiB."""
    mend = "delete what nobody needs, such as old *.records or Ray's folders in /tmp/ray"
    return [
        Finding(
            "error" if free < NOTHING else "warning",
            host,
            f"{folder} has {free:.1f} GiB left",
            mend,
        )
        for folder, free in room.items()
        if free < LITTLE
    ]


def _gpu_count(host: str, node: Patient, facts: Facts) -> list[Finding]:
    what = f"GPUs: Ray counts {node.gpus:g}, NVIDIA's driver {facts.devices}"
    if node.gpus > facts.devices:
        level = "warning" if not facts.gpus else "error"
        mend = "on it: nvidia-smi; where there is no GPU, trials run on its CPU"
        return [Finding(level, host, what, mend)]
    if 0 < node.gpus < facts.devices and any(gpu.slices for gpu in facts.gpus):
        mend = (
            "on it: ray stop; export CUDA_VISIBLE_DEVICES=$(nvidia-smi -L | grep -o 'MIG-[^)]*' | "
            f"paste -sd,); then ray start with --num-gpus={facts.devices}"
        )
        return [Finding("warning", host, f"{what} with MIG slices, each a GPU of its own", mend)]
    return []


def _gpu(host: str, index: int, gpu: Gpu, asked: float) -> list[Finding]:
    what = f"GPU {index} {gpu.name}: {gpu.free_gib:.1f} of {gpu.gib:.1f} GiB free; "
    if gpu.slices:
        what += f"{len(gpu.slices)} MIG slices, each a GPU of its own: "
        counts = Counter(gpu.slices)
        what += ", ".join(f"{n} {profile} ({_nominal(profile)})" for profile, n in counts.items())
    else:
        what += "trials by --gpus-per-trial "
        what += ", ".join(f"{s:g}: {int(1 / s)} of {gpu.gib * s:.1f} GiB" for s in GPU_SHARES)
    found = [Finding("ok", host, what)]
    for holder in gpu.processes:
        held = f"GPU {index}: {holder.gib:.1f} GiB held by process {holder.pid}"
        if holder.orphan:
            found.append(
                Finding("error", host, f"{held}, which a dead Ray left ({holder.command})",
                        f"on it: kill -9 {holder.pid}")
            )  # fmt: skip
        elif not holder.command.startswith("ray::") and MPS_PROCESS not in holder.command:
            found.append(
                Finding("warning", host, f"{held} ({holder.command})",
                        f"if it is yours and forgotten, on it: kill {holder.pid}")
            )  # fmt: skip
    share = min(asked, 1.0) * gpu.gib
    if 0 < gpu.free_gib < share and not gpu.slices:
        found.append(
            Finding("warning", host, f"GPU {index}: a trial may take {share:.1f} GiB and "
                    f"{gpu.free_gib:.1f} are free", "lower --gpus-per-trial, or free the GPU")
        )  # fmt: skip
    return found


def _nominal(profile: str) -> str:
    """Return the memory that a MIG profile such as ``1g.5gb`` names."""
    found = re.search(r"(\d+)gb", profile)
    return f"{found.group(1)} GB of memory" if found else "memory unknown"
