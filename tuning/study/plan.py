"""``--plan``: what a command would run and what it would cost. Starts and writes nothing."""

import math
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from common.files import find_existing_parent
from core.environment import detect
from core.training.profiling import measure_step_seconds
from core.training.run import Run
from tuning.cluster import gpu_share
from tuning.cluster.connection import find_cluster, join_cluster
from tuning.cluster.nodes import local_node
from tuning.option_values import AUTO
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.storage import is_url
from tuning.reporting.table_files import format_markdown
from tuning.resources import (
    Node,
    Resources,
    choose_resources,
    count_slots,
    format_devices,
)
from tuning.search.proposal import count_trials
from tuning.search.space import Space
from tuning.search.successive_halving import make_successive_halving
from tuning.study.checks import Plan, check

STEPS = 30  # steps that are timed where an epoch has many more


@dataclass(frozen=True)
class Estimate:
    """What one method would cost.

    Args:
        method: The method.
        trials: Configurations of the search that are left to run.
        seeds: Confirmation seeds that are left, if the winner stays.
        trial_epochs: Epochs of a trial that runs to its end, all stages.
        expected_epochs: Epochs of search and confirmation together, as expected.
        seconds: Seconds of an epoch.
        source: Where that figure comes from.
        disk: Bytes of the states of a trial or seed while it runs; they go at its end.
    """

    method: str
    trials: int
    seeds: int
    trial_epochs: int
    expected_epochs: float
    seconds: float
    source: str
    disk: int


def show(options: Options) -> int:
    """Print the plan of a command; return 0.

    Raises:
        UserError: For what would stop the command itself.
    """
    plan = check(options)
    options = plan.options
    address = find_cluster(options.address)
    if address is None:
        nodes = [local_node()]
    else:
        with join_cluster(address) as found:
            nodes = found
    resources = choose_resources(nodes, options.cpus_per_trial, options.gpus_per_trial)
    note = ""
    if options.gpus_per_trial == AUTO and resources.gpus:
        names = [space.method.name for space in plan.spaces]
        share = gpu_share.read_measured_share(
            [MethodRecords(options.records_of(name)) for name in names]
        )
        resources, note = replace(resources, gpus=share or resources.gpus), _auto(share)
    estimates = [_estimate(plan, space, resources) for space in plan.spaces]
    console = Console(soft_wrap=True, highlight=False, markup=False)
    _print(plan, estimates, nodes, resources, console)
    if note:
        console.print(note)
    return 0


def _auto(share: float | None) -> str:
    """Return what stands behind the share of a GPU that the plan counts with."""
    start = f"--gpus-per-trial {AUTO}: "
    if share is not None:
        return f"{start}{share:g} of a GPU each, as this study has measured"
    return (
        f"{start}not measured before the study starts; counted above as one GPU each, which is the "
        "most: with shares more trials run at once, and GPU-hours are fewer"
    )


def estimate_epochs(epochs: int, scheduler: str) -> float:
    """Return the mean epochs of a trial of the search."""
    if scheduler != "asha" or epochs < 2:
        return epochs
    return make_successive_halving(epochs).expected_epochs()


def _estimate(plan: Plan, space: Space, resources: Resources) -> Estimate:
    options = plan.options
    gpu = None if resources.gpus else False
    environment = detect(gpu, resources.cpus, options.deterministic, options.precision)
    key = space.resolved.make_key(space.fixed, 0, environment)
    run = Run(key, space.benchmark)
    eligible, _ = space.resolved.count_epochs(space.fixed)
    seconds, source = _recorded_seconds(options, space)
    if seconds is None:
        seconds, source = _timed(run)
    asked = count_trials(space, options)
    trials = max(0, asked - _finished(options, space, "search"))
    seeds = max(0, options.seeds - _finished(options, space, "confirm"))
    other = run.total_epochs - eligible
    each = other + estimate_epochs(eligible, options.scheduler)
    searched = trials * options.search_seeds * each
    with tempfile.TemporaryFile() as file:
        torch.save(run.state_dict(), file)
        state = file.tell()
    return Estimate(
        space.method.name,
        trials,
        seeds,
        run.total_epochs,
        searched + seeds * run.total_epochs,
        seconds,
        source,
        state * (options.search_seeds + 2),
    )


def _timed(run: Run) -> tuple[float, str]:
    """Return the seconds of an epoch, timed here; of a long one from its first steps."""
    if run.stage_state.steps_per_epoch <= 2 * STEPS:
        start = time.perf_counter()
        run.train_epoch()
        return time.perf_counter() - start, "a first epoch timed here"
    step, taken = measure_step_seconds(run, 0, STEPS)
    # A forward pass costs about a third of a step.
    validation = len(run.context.validation) / run.key.training_config.batch_size / 3
    return step * (run.stage_state.steps_per_epoch + validation), f"{taken} steps timed here"


def _finished(options: Options, space: Space, phase: str) -> int:
    """Return how many configurations of a phase have ended in earlier records."""
    folders = MethodRecords(options.records_of(space.method.name)).list_runs()
    ended = [f.read_description() for f in folders if f.read_end() is not None]
    return len({d.number for d in ended if d is not None and d.phase == phase})


def _recorded_seconds(options: Options, space: Space) -> tuple[float | None, str]:
    """Return the mean seconds of an epoch in earlier records of this study, if there are any."""
    records = MethodRecords(options.records_of(space.method.name))
    seconds = [
        float(row["seconds"]) for folder in records.list_runs() for row in folder.read_rows()
    ]
    if not seconds:
        return None, ""
    return sum(seconds) / len(seconds), f"{len(seconds)} recorded epochs"


def _print(
    plan: Plan, estimates: list[Estimate], nodes: list[Node], resources: Resources, console: Console
) -> None:
    options = plan.options
    count = count_slots(nodes, resources)
    rows = [
        {
            "method": e.method,
            "trials": str(e.trials),
            "epochs of a trial": str(e.trial_epochs),
            "seeds": str(e.seeds),
            "epochs, expected": f"{math.ceil(e.expected_epochs)}",
            "s per epoch": f"{e.seconds:.3g}",
            "device-hours": f"{e.expected_epochs * e.seconds * resources.device_share / 3600:.2g}",
            "from": e.source,
        }
        for e in estimates
    ]
    for line in plan.skipped:
        console.print(line)
    console.print("\n".join(format_markdown(rows)))
    for node in nodes:
        fit = resources.count_trials(node)
        console.print(f"node {node}: {fit} trials at once")
    hours = sum(e.expected_epochs * e.seconds for e in estimates) / max(1, count) / 3600
    kind = "GPU" if resources.gpus else "CPU"
    console.print(
        f"each trial takes {format_devices(resources.cpus, resources.gpus)}; "
        f"about {_hours(hours)} on {count} slots, besides start-up (seconds per node); "
        f"device-hours are {kind}-hours",
    )
    disk = max(e.disk for e in estimates) * count
    room = ""
    if not is_url(options.records):
        free = shutil.disk_usage(find_existing_parent(Path(options.records))).free
        room = f", where {free / 1e9:.0f} GB are free"
    console.print(
        f"disk: states up to {disk / 1e6:.1f} MB in {options.records}{room}; nothing was started",
    )


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{max(1, round(hours * 60))} min"
