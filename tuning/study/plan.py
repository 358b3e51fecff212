"""``--plan``: print the trials of a command and their cost; start and write nothing."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from common.files import find_existing_parent
from common.text import format_count
from tuning.cluster import gpu_share
from tuning.cluster.addresses import find_cluster
from tuning.cluster.connection import join_cluster
from tuning.cluster.nodes import local_node
from tuning.option_values import AUTO
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.storage import is_url
from tuning.reporting.layout.printed_table import format_markdown
from tuning.resources import (
    Node,
    Resources,
    choose_resources,
    count_slots,
    format_devices,
)
from tuning.search.time_left import estimate_seconds_left
from tuning.study.checks import CheckedStudy, check_study
from tuning.study.cost import CostEstimate, estimate_costs
from tuning.study.space_table import format_spaces
from tuning.study.steps import BOUND_REASONS


def print_plan(options: Options) -> float | None:
    """Print the plan of a study; return its seconds on all slots, None where these are unknown.

    Raises:
        UserError: For any mistake that the command itself would refuse.
    """
    study = check_study(options, is_plan=True)
    options = study.options
    address = find_cluster(options.address)
    if address is None:
        nodes = [local_node()]
    else:
        with join_cluster(address) as found:
            nodes = found
    asked = options.gpus_per_trial
    is_for_other_machines = address is None and isinstance(asked, float) and not nodes[0].gpus
    if isinstance(asked, float) and is_for_other_machines:
        nodes, resources = [], Resources(options.cpus_per_trial, asked)
    else:
        resources = choose_resources(nodes, options.cpus_per_trial, asked)
    note = ""
    if options.gpus_per_trial == AUTO and resources.gpus:
        records = [MethodRecords(options.records_of(s.resolved.name)) for s in study.spaces]
        share = gpu_share.read_measured_share(records)
        resources, note = replace(resources, gpus=share or resources.gpus), _describe_share(share)
    can_run = not study.absent
    estimates = estimate_costs(options, study.spaces, resources, can_run)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if options.resume and not any(
        MethodRecords(options.records_of(s.resolved.name)).read_definition() for s in study.spaces
    ):
        console.print(f"no study found in {options.records}; --resume would start a new one")
    searched = format_spaces(study.spaces, options.search)
    for line in (*study.notes, *searched, *_format_plan(study, estimates, nodes, resources)):
        console.print(line)
    if note:
        console.print(note)
    console.print("nothing was started")
    return _estimate_seconds(estimates, count_slots(nodes, resources))


def _describe_share(share: float | None) -> str:
    """Return the source of the GPU share on which the plan is based."""
    start = f"--gpus-per-trial {AUTO}: "
    if share is not None:
        return f"{start}{share:g} of a GPU per trial, as measured by this study"
    return (
        f"{start}not measured before the study starts; the plan counts one GPU per trial, the "
        "most: with shares, more trials run in parallel and GPU-hours are fewer"
    )


def _format_plan(
    study: CheckedStudy,
    estimates: Sequence[CostEstimate],
    nodes: list[Node],
    resources: Resources,
) -> list[str]:
    rows = [
        {
            "method": e.method,
            "trials": str(e.trials),
            "epochs per trial": "-".join(map(str, dict.fromkeys(e.trial_epochs))),
            **(
                {"finalists' runs": f"up to {e.further_runs}"}
                if any(estimate.further_runs for estimate in estimates)
                else {}
            ),
            "seeds": str(e.seeds),
            "expected epochs (total)": f"{math.ceil(e.expected_epochs)}",
            "steps per epoch": f"{'about ' if study.absent else ''}{e.steps}",
            "s per epoch": _format_seconds(e),
            "device-hours": _format_device_hours(e, resources),
            "timing source": e.source,
        }
        for e in estimates
    ]
    count = count_slots(nodes, resources)
    return [
        *format_markdown(rows),
        *_explain_bounds(estimates),
        *_describe_absence(study),
        *(
            f"node {node}: {format_count(resources.count_trials(node), 'trial')} in parallel"
            for node in nodes
        ),
        *(() if nodes else ("this machine has no GPU: slots are counted where the study runs",)),
        _describe_time(estimates, count, resources),
        _describe_disk(study.options, [e.disk for e in estimates], count),
    ]


def _explain_bounds(estimates: Sequence[CostEstimate]) -> list[str]:
    """Return why some numbers of steps are bounds."""
    bounds = dict.fromkeys(bound for e in estimates for bound in e.steps.bounds if bound)
    return [f"{bound}N steps: {BOUND_REASONS[bound]}" for bound in bounds]


def _describe_absence(study: CheckedStudy) -> list[str]:
    """Return what this machine lacks, and the sizes that the plan is based on instead."""
    if not study.absent:
        return []
    sizes = study.benchmark.published_sizes.items()
    listed = ", ".join(f"{count:,} {split}" for split, count in sizes)
    return [
        f"estimated from the data card ({listed}), because this machine lacks data or weights:",
        *(f"  {line}" for line in study.absent),
    ]


def _format_seconds(estimate: CostEstimate) -> str:
    """Return the seconds of an epoch of each stage; of equal stages once."""
    if estimate.times is None:
        return "-"
    return ", then ".join(dict.fromkeys(f"{one:.3g}" for one in estimate.times.assumed))


def _format_device_hours(estimate: CostEstimate, resources: Resources) -> str:
    if estimate.seconds is None:
        return "-"
    return f"{estimate.seconds * resources.device_share / 3600:.2g}"


def _describe_time(estimates: Sequence[CostEstimate], slots: int, resources: Resources) -> str:
    """Return the hours on all slots; the number of steps where an epoch's time is unknown."""
    start = f"each trial takes {format_devices(resources.cpus, resources.gpus)}; "
    seconds = _estimate_seconds(estimates, slots)
    if seconds is None:
        steps = sum(math.ceil(math.ceil(e.expected_epochs) * e.steps.mean) for e in estimates)
        return f"{start}about {steps:,} steps in all, whose time is measured where the study runs"
    bound = "at least" if any("at least " in e.steps.bounds for e in estimates) else "about"
    return (
        f"{start}{bound} {format_hours(seconds / 3600)} on {format_count(slots, 'slot')}, "
        "excluding start-up (seconds per node); "
        f"device-hours are {'GPU' if resources.gpus else 'CPU'}-hours"
    )


def _estimate_seconds(estimates: Sequence[CostEstimate], slots: int) -> float | None:
    """Return the seconds on all slots; None where an epoch's time is unknown."""
    known = [estimate.times for estimate in estimates if estimate.times is not None]
    if len(known) < len(estimates):
        return None
    return estimate_seconds_left(known, max(1, slots))


def _describe_disk(options: Options, states: Sequence[int | None], slots: int) -> str:
    known = [size for size in states if size is not None]
    if not known:
        return f"disk: checkpoints in {options.records}, of a size not known here"
    state_bytes = max(known) * max(1, slots)
    free = ""
    if not is_url(options.records):
        usage = shutil.disk_usage(find_existing_parent(Path(options.records)))
        free = f", where {usage.free / 1e9:.0f} GB are free"
    return f"disk: checkpoints up to {state_bytes / 1e6:.1f} MB in {options.records}{free}"


def format_hours(hours: float) -> str:
    """Return hours, or minutes of less than an hour."""
    return f"{hours:.1f} h" if hours >= 1 else f"{max(1, round(hours * 60))} min"
