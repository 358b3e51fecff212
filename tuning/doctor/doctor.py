"""The doctor: what is wrong with a cluster for a study, and the command that mends it.

Each node is asked by a task pinned to it. :func:`preflight` is the same before every study, and
raises what would make it fail.
"""

import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from common.errors import UserError, ValidationErrors
from tuning.doctor import diagnosis
from tuning.doctor.diagnosis import Finding, Patient
from tuning.doctor.node_facts import MARK, Facts, Question, cache, clock, existing, look, room
from tuning.gpus import list_gpus
from tuning.records.open_storage import open_storage
from tuning.records.storage import describe_error, is_url

GONE = (NodeDiedError, TaskUnschedulableError)
PATIENCE = 90.0  # seconds for a node to answer: a first process on it may import torch from NFS
HURRY = 20.0  # seconds for it before a study, once another that can hold trials has answered


def patients() -> list[Patient]:
    """Return the nodes of the cluster that this process has joined."""
    return [
        Patient(
            node["NodeID"], node["NodeManagerHostname"],
            node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]  # fmt: skip


def preflight(
    *,
    dataset: str,
    data_root: Path,
    places: Sequence[str],
    results: Path = Path("results"),
    models: Sequence[str] = (),
    cpus: float = 1,
    gpus: float = 0,
    alone: bool = False,
) -> list[Finding]:
    """Examine the joined cluster before a study; return the warnings.

    Args:
        dataset: The benchmark.
        data_root: The folder of the data sets.
        places: Folders and URLs that all nodes must share.
        results: The folder of the exports, which only this machine writes.
        models: Names of models whose weights trials need.
        cpus: CPUs of a trial.
        gpus: Share of a GPU, or GPUs, of a trial.
        alone: Whether this machine is the whole cluster: then only its disks and GPUs matter,
            since the command itself has looked at its data, models and folders.

    Raises:
        ValidationErrors: What would make the study fail, each with what mends it.
    """
    if alone:
        found = _this_machine(Question("", (), str(data_root), dataset), [*places, results], gpus)
    else:
        found = examine(
            dataset=dataset, data_root=data_root, places=places, results=results, models=models,
            cpus=cpus, gpus=gpus, patience=HURRY,
        )  # fmt: skip
    errors = [finding for finding in found if finding.level == "error"]
    if errors:
        raise ValidationErrors(
            [f"{f.node or 'cluster'}: {f.what}" + (f"; {f.mend}" if f.mend else "") for f in errors]
        )
    return [finding for finding in found if finding.level == "warning"]


def _this_machine(question: Question, written: Sequence[str | Path], gpus: float) -> list[Finding]:
    """Examine this machine in this process, in milliseconds."""
    host = socket.gethostname()
    cards = list_gpus() if gpus else ()
    free = room([*map(str, written), "/tmp", *cache(question)])
    facts = Facts(host, {}, "", cards, free)
    node = Patient("", host, 0, facts.devices)
    return diagnosis.alone(node, facts, question, True, gpus, 0.0, 0.0)


def examine(
    *,
    dataset: str = "",
    data_root: Path = Path("data"),
    places: Sequence[str] = (),
    results: Path = Path("results"),
    models: Sequence[str] = (),
    cpus: float = 1,
    gpus: float = 0,
    patience: float = PATIENCE,
) -> list[Finding]:
    """Examine all nodes of the cluster that this process has joined.

    Args:
        dataset: The benchmark; empty asks nothing about data.
        data_root: The folder of the data sets.
        places: Folders and URLs that all nodes must share: the records.
        results: The folder of the exports, which only this machine writes.
        models: Names of models whose weights trials need.
        cpus: CPUs of a trial.
        gpus: Share of a GPU, or GPUs, of a trial.
        patience: Seconds for a node to answer once another that can hold trials has.
    """
    shared = tuple(dict.fromkeys(p if is_url(p) else existing(p) for p in places))
    question = Question(uuid.uuid4().hex, shared, str(data_root.absolute()), dataset, tuple(models))
    nodes = patients()
    own = ray.get_runtime_context().get_node_id()
    trials = {n.node: n.cpus >= cpus and n.gpus >= min(gpus, 1) for n in nodes}
    try:
        for where in shared:
            open_storage(where).with_short_timeouts().write_bytes(
                f"{MARK}{question.token}-driver", b"driver"
            )
        start = time.time()
        answers, silent = _ask(question, nodes, trials, patience)
        spent = time.time() - start
        off = _clocks([node for node in nodes if node.node in answers])
        found = [*silent, *diagnosis.shared(question, nodes, answers)]
    except (OSError, UserError) as error:
        return [
            Finding(
                "error", "head", f"cannot write in {', '.join(places)}: {describe_error(error)}"
            )
        ]
    finally:
        for where in shared:
            _remove_tokens(where, [f"{MARK}{question.token}-{n.node}" for n in nodes])
            _remove_tokens(where, [f"{MARK}{question.token}-driver"])
    by_node = {node.node: node for node in nodes}
    found += diagnosis.code(answers, own, by_node)
    found += diagnosis.versions(answers, own, by_node)
    for node, facts in answers.items():
        found += diagnosis.alone(
            by_node[node], facts, question, trials[node], gpus, off.get(node, 0.0), spent
        )
    written = room([str(results)])
    known = answers[own].free if own in answers else {}
    found += diagnosis.disks(
        socket.gethostname(), {k: v for k, v in written.items() if k not in known}
    )
    rank = {"error": 0, "warning": 1, "ok": 2}
    return sorted(found, key=lambda finding: rank[finding.level])


def _remove_tokens(where: str, names: Sequence[str]) -> None:
    with suppress(OSError, UserError):
        for name in names:
            open_storage(where).with_short_timeouts().delete(name)


def report(findings: Iterable[Finding]) -> str:
    """Return what the doctor prints."""
    listed = list(findings)
    count = Counter(finding.level for finding in listed)
    last = f"{count['error']} errors, {count['warning']} warnings, {count['ok']} fine"
    return "\n".join([*map(str, listed), last])


def _on(node: Patient) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node.node, soft=False)


def _clocks(nodes: Sequence[Patient]) -> dict[str, float]:
    """Return by how many seconds each node's clock is off, at least.

    A question of its own: the processes are there now, so that an answer takes milliseconds, and no
    more than that can hide a difference.
    """
    task: Any = ray.remote(num_cpus=0, max_retries=0)(clock)
    start = time.time()
    asked = {task.options(scheduling_strategy=_on(node)).remote(): node.node for node in nodes}
    off: dict[str, float] = {}
    while asked:
        ready, _ = ray.wait(list(asked), timeout=HURRY)
        arrived = time.time()
        for reference in ready:
            node = asked.pop(reference)
            with suppress(RayError):  # it went away: whoever needs it hears of that
                there = ray.get(reference)
                off[node] = max(there - arrived, start - there, 0.0)
        if not ready:
            break
    return off


def _ask(
    question: Question, nodes: Sequence[Patient], trials: dict[str, bool], patience: float
) -> tuple[dict[str, Facts], list[Finding]]:
    """Return each node's answer, and a finding for each that gave none."""
    task: Any = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {
        task.options(scheduling_strategy=_on(node)).remote(
            question, node.node, trials[node.node]
        ): node
        for node in nodes
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
    waited = patience
    if late and not any(trials[asked[reference].node] for reference in ready):
        hosts = ", ".join(asked[reference].host for reference in late)
        print(f"no answer within {patience:g} s from {hosts}: waiting on", file=sys.stderr)
        waited = PATIENCE
        rest = max(PATIENCE - patience, 0)
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=rest)
    answers, silent, gone = {}, [], []
    for reference in ready:
        node = asked[reference]
        try:
            answers[node.node] = ray.get(reference)
        except GONE:
            gone.append((node, "went away while it was asked", "nothing, if that was meant"))
        except Exception as error:  # whatever a foreign machine fails with
            lines = str(error).strip().splitlines() or [type(error).__name__]
            silent.append(
                Finding(
                    "error", node.host, f"cannot run the project's code: {lines[-1]}",
                    "ray up --no-config-cache FILE, which copies and installs it again",
                )
            )  # fmt: skip
    for reference in late:
        ray.cancel(reference, force=True)
        mend = "on it: ray stop --force; then ray up --no-config-cache --no-restart FILE"
        gone.append((asked[reference], f"does not answer within {waited:g} s", mend))
    # A study can do without a lost machine as long as another can hold its trials.
    level = "warning" if any(trials[node] for node in answers) else "error"
    return answers, [*silent, *(Finding(level, node.host, *told) for node, *told in gone)]
