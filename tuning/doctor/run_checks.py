"""The doctor: checks a cluster for a study, and gives the command that fixes each finding.

:func:`preflight_check` runs before every study, and raises the errors that would make it fail.
"""

import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from common.errors import UserError, ValidationErrors
from common.files import find_existing_parent
from tuning.cluster.nodes import list_nodes
from tuning.doctor.ask_nodes import (
    TIMEOUT_SECONDS,
    ask_nodes,
    find_own_node,
    measure_clock_skew,
)
from tuning.doctor.findings import (
    Finding,
    check_disks,
    check_node,
    check_shared_storage,
    check_versions,
    sort_findings,
)
from tuning.doctor.node_facts import (
    DRIVER,
    TEST_FILE,
    NodeFacts,
    Requirements,
    find_caches,
    find_temporary_folder,
    measure_free_space,
)
from tuning.gpus import list_gpus
from tuning.records.open_storage import open_storage
from tuning.records.storage import describe_error, is_url
from tuning.resources import Node

PREFLIGHT_TIMEOUT_SECONDS = 20.0  # of a node's answer, once one that can hold trials has answered


def preflight_check(
    requirements: Requirements, results: Path, single_machine: bool
) -> list[Finding]:
    """Check the joined cluster before a study; return the warnings.

    Args:
        requirements: The needs of the study.
        results: The folder of the exports, which only this machine writes.
        single_machine: Whether this machine is the whole cluster: then only its disks and GPUs
            are checked, since the command itself has checked its data, models and folders.

    Raises:
        ValidationErrors: The errors that would make the study fail, each with its fix.
    """
    if single_machine:
        findings = check_this_machine(requirements, results)
    else:
        findings = check_cluster(requirements, results, PREFLIGHT_TIMEOUT_SECONDS)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise ValidationErrors(
            [
                f"{e.node or 'cluster'}: {e.message}" + (f"; {e.fix}" if e.fix else "")
                for e in errors
            ]
        )
    return [finding for finding in findings if finding.level == "warning"]


def check_this_machine(requirements: Requirements, results: Path) -> list[Finding]:
    """Check the disks and GPUs of this machine, in this process and in milliseconds."""
    host = socket.gethostname()
    caches = find_caches(requirements)
    folders = [*requirements.storages, str(results), find_temporary_folder(), *caches]
    gpus = list_gpus() if requirements.gpus else ()
    facts = NodeFacts(host, {}, gpus, measure_free_space(folders))
    node = Node(host, 0, facts.device_count)
    return check_node(node, facts, requirements, runs_trials=True)


def check_cluster(
    requirements: Requirements, results: Path, timeout: float = TIMEOUT_SECONDS
) -> list[Finding]:
    """Check all nodes of the joined cluster; return the findings, errors first.

    Args:
        requirements: The needs of the study.
        results: The folder of the exports, which only this machine writes.
        timeout: Seconds for a node's answer once another that can hold trials has answered.
    """
    storages = (s if is_url(s) else str(find_existing_parent(Path(s)))
                for s in requirements.storages)  # fmt: skip
    needs = replace(requirements, storages=tuple(dict.fromkeys(storages)))
    token = uuid.uuid4().hex
    nodes = list_nodes().alive
    runs_trials = {n.id: n.cpus >= needs.cpus and n.gpus >= min(needs.gpus, 1) for n in nodes}
    errors = {storage: _write_test_file(storage, token) for storage in needs.storages}
    findings = [
        Finding("error", "head", f"cannot write in {storage}: {error}")
        for storage, error in errors.items()
        if error
    ]
    needs = replace(needs, storages=tuple(s for s, error in errors.items() if not error))
    try:
        start = time.time()
        facts, unanswered = ask_nodes(needs, token, nodes, runs_trials, timeout)
        seconds = time.time() - start
        skew = measure_clock_skew([node for node in nodes if node.id in facts])
        findings += [*unanswered, *check_shared_storage(needs, token, nodes, facts)]
    finally:
        for storage in needs.storages:
            delete_test_files(storage, token, [*(node.id for node in nodes), DRIVER])
    own = find_own_node()
    findings += check_versions(facts, own)
    for node in (node for node in nodes if node.id in facts):
        findings += check_node(
            node, facts[node.id], needs, runs_trials[node.id], skew.get(node.id, 0.0), seconds
        )
    checked = facts[own].free_gib if own in facts else {}
    disks = {d: free for d, free in measure_free_space([str(results)]).items() if d not in checked}
    findings += check_disks(socket.gethostname(), disks)
    return sort_findings(findings)


def _write_test_file(storage: str, token: str) -> str:
    """Write the driver's test file; return why it cannot be written, empty if it can."""
    try:
        opened = open_storage(storage).with_short_timeouts()
        opened.write_bytes(f"{TEST_FILE}{token}-{DRIVER}", DRIVER.encode())
    except (OSError, UserError) as error:
        return describe_error(error)
    return ""


def delete_test_files(storage: str, token: str, writers: Sequence[str]) -> None:
    """Delete the test files of a check in a storage, as far as they can be deleted.

    Args:
        storage: The storage, in which the driver could write.
        token: The name of the check.
        writers: The nodes that may have written one.
    """
    opened = open_storage(storage).with_short_timeouts()
    for writer in writers:
        with suppress(OSError):
            opened.delete(f"{TEST_FILE}{token}-{writer}")
