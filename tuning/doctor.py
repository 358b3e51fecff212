"""The doctor: what is wrong with a cluster for a study, and the command that mends it.

Each node is asked by a task pinned to it. :func:`preflight` is the same before every study, and
raises what would make it fail.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from datasets.errors import Problems
from tuning import diagnosis
from tuning.diagnosis import Finding, Patient
from tuning.node_facts import MARK, Facts, Question, look

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
    places: Sequence[Path],
    models: Sequence[str] = (),
    cpus: float = 1,
    gpus: float = 0,
) -> list[Finding]:
    """Examine the joined cluster before a study; return the warnings.

    Raises:
        Problems: What would make the study fail, each with what mends it.
    """
    found = examine(
        dataset=dataset, data_root=data_root, places=places, models=models, cpus=cpus, gpus=gpus
    )
    errors = [finding for finding in found if finding.level == "error"]
    if errors:
        raise Problems(
            [f"{f.node or 'cluster'}: {f.what}" + (f"; {f.mend}" if f.mend else "") for f in errors]
        )
    return [finding for finding in found if finding.level == "warning"]


def examine(
    *,
    dataset: str = "",
    data_root: Path = Path("data"),
    places: Sequence[Path] = (),
    models: Sequence[str] = (),
    cpus: float = 1,
    gpus: float = 0,
) -> list[Finding]:
    """Examine all nodes of the cluster that this process has joined.

    Args:
        dataset: The benchmark; empty asks nothing about data.
        data_root: The folder of the data sets.
        places: Folders that all nodes must share: records, and results where workers write them.
        models: Names of models whose weights trials need.
        cpus: CPUs of a trial.
        gpus: Share of a GPU, or GPUs, of a trial.
    """
    existing = tuple(dict.fromkeys(str(_existing(place)) for place in places))
    question = Question(
        uuid.uuid4().hex, existing, str(data_root.absolute()), dataset, tuple(models)
    )
    nodes = patients()
    own = ray.get_runtime_context().get_node_id()
    trials = {n.node: n.cpus >= cpus and n.gpus >= min(gpus, 1) for n in nodes}
    try:
        for place in existing:
            (Path(place) / f"{MARK}{question.token}-driver").write_text("driver", encoding="utf-8")
        start = time.time()
        answers, silent = _ask(question, nodes, trials)
        spent = time.time() - start
        found = [*silent, *diagnosis.shared(question, nodes, answers)]
    except OSError as error:
        return [Finding("error", "head", f"cannot write in {error.filename}: {error.strerror}")]
    finally:
        for place in existing:
            for left in Path(place).glob(f"{MARK}{question.token}-*"):
                left.unlink(missing_ok=True)
    by_node = {node.node: node for node in nodes}
    found += diagnosis.code(answers, own, by_node)
    found += diagnosis.versions(answers, own, by_node)
    for node, facts in answers.items():
        found += diagnosis.alone(by_node[node], facts, question, trials[node], gpus, start, spent)
    rank = {"error": 0, "warning": 1, "ok": 2}
    return sorted(found, key=lambda finding: rank[finding.level])


def report(findings: Iterable[Finding]) -> str:
    """Return what the doctor prints."""
    listed = list(findings)
    count = Counter(finding.level for finding in listed)
    last = f"{count['error']} errors, {count['warning']} warnings, {count['ok']} fine"
    return "\n".join([*map(str, listed), last])


def _existing(place: Path) -> Path:
    """Return a folder, or its nearest parent that exists: a study makes the rest."""
    place = place.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


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
    answers, silent = {}, []
    for reference in ready:
        node = asked[reference]
        try:
            answers[node.node] = ray.get(reference)
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
        silent.append(
            Finding(
                "error", asked[reference].host, f"does not answer within {PATIENCE:g} s",
                "on it: ray stop --force; then ray up --no-config-cache --no-restart FILE",
            )
        )  # fmt: skip
    return answers, silent
