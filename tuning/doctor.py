"""The doctor: what is wrong with a cluster for a study, and the command that mends it.

Each node is asked by a task pinned to it. :func:`preflight` is the same before every study, and
raises what would make it fail.
"""

import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from datasets.errors import Problems, UserError
from tuning import diagnosis, node_facts
from tuning.diagnosis import Finding, Patient
from tuning.node_facts import MARK, Facts, Question, look
from tuning.storage import is_url, place, reason

GONE = (NodeDiedError, TaskUnschedulableError)
PATIENCE = 90.0  # seconds for a node to answer: a first process on it may import torch from NFS


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
        models: Names of models whose weights trials need.
        cpus: CPUs of a trial.
        gpus: Share of a GPU, or GPUs, of a trial.
        alone: Whether this machine is the whole cluster: then only its disks and GPUs matter,
            since the command itself has looked at its data, models and folders.

    Raises:
        Problems: What would make the study fail, each with what mends it.
    """
    found = (
        _this_machine(places, gpus)
        if alone
        else examine(
            dataset=dataset, data_root=data_root, places=places, models=models, cpus=cpus, gpus=gpus
        )
    )
    errors = [finding for finding in found if finding.level == "error"]
    if errors:
        raise Problems(
            [f"{f.node or 'cluster'}: {f.what}" + (f"; {f.mend}" if f.mend else "") for f in errors]
        )
    return [finding for finding in found if finding.level == "warning"]


def _this_machine(places: Sequence[str], gpus: float) -> list[Finding]:
    """Examine this machine in this process, in milliseconds."""
    host, folders = socket.gethostname(), [_existing(p) for p in places if not is_url(p)]
    cards = node_facts.gpus() if gpus else ()
    now = time.time()
    facts = Facts(host, now, {}, "", cards, node_facts.room([*folders, "/tmp"]))
    node = Patient("", host, 0, facts.devices)
    return diagnosis.alone(node, facts, Question("", (), ""), True, gpus, now, 0.0)


def examine(
    *,
    dataset: str = "",
    data_root: Path = Path("data"),
    places: Sequence[str] = (),
    models: Sequence[str] = (),
    cpus: float = 1,
    gpus: float = 0,
) -> list[Finding]:
    """Examine all nodes of the cluster that this process has joined.

    Args:
        dataset: The benchmark; empty asks nothing about data.
        data_root: The folder of the data sets.
        places: Folders and URLs that all nodes must share: the records.
        models: Names of models whose weights trials need.
        cpus: CPUs of a trial.
        gpus: Share of a GPU, or GPUs, of a trial.
    """
    existing = tuple(dict.fromkeys(p if is_url(p) else _existing(p) for p in places))
    question = Question(
        uuid.uuid4().hex, existing, str(data_root.absolute()), dataset, tuple(models)
    )
    nodes = patients()
    own = ray.get_runtime_context().get_node_id()
    trials = {n.node: n.cpus >= cpus and n.gpus >= min(gpus, 1) for n in nodes}
    try:
        for where in existing:
            place(where).write(f"{MARK}{question.token}-driver", b"driver")
        start = time.time()
        answers, silent = _ask(question, nodes, trials)
        spent = time.time() - start
        found = [*silent, *diagnosis.shared(question, nodes, answers)]
    except (OSError, UserError) as error:
        return [Finding("error", "head", f"cannot write in {', '.join(existing)}: {reason(error)}")]
    finally:
        for where in existing:
            _remove_tokens(where, [f"{MARK}{question.token}-{n.node}" for n in nodes])
            _remove_tokens(where, [f"{MARK}{question.token}-driver"])
    by_node = {node.node: node for node in nodes}
    found += diagnosis.code(answers, own, by_node)
    found += diagnosis.versions(answers, own, by_node)
    for node, facts in answers.items():
        found += diagnosis.alone(by_node[node], facts, question, trials[node], gpus, start, spent)
    rank = {"error": 0, "warning": 1, "ok": 2}
    return sorted(found, key=lambda finding: rank[finding.level])


def _remove_tokens(where: str, names: Sequence[str]) -> None:
    with suppress(OSError, UserError):
        for name in names:
            place(where).delete(name)


def report(findings: Iterable[Finding]) -> str:
    """Return what the doctor prints."""
    listed = list(findings)
    count = Counter(finding.level for finding in listed)
    last = f"{count['error']} errors, {count['warning']} warnings, {count['ok']} fine"
    return "\n".join([*map(str, listed), last])


def _existing(folder: str) -> str:
    """Return a folder, or its nearest parent that exists: a study makes the rest."""
    found = Path(folder).absolute()
    while not found.is_dir() and found != found.parent:
        found = found.parent
    return str(found)


def _ask(
    question: Question, nodes: Sequence[Patient], trials: dict[str, bool]
) -> tuple[dict[str, Facts], list[Finding]]:
    """Return each node's answer, and a finding for each that gave none."""
    task: Any = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node, soft=False)
        ).remote(question, node.node, trials[node.node]): node
        for node in nodes
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
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
        gone.append((asked[reference], f"does not answer within {PATIENCE:g} s", mend))
    # A study can do without a lost machine as long as another can hold its trials.
    level = "warning" if any(trials[node] for node in answers) else "error"
    return answers, [*silent, *(Finding(level, node.host, *told) for node, *told in gone)]
