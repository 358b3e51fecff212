"""The study, from top to bottom: check, search, select, confirm, export."""

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from core.recipe.assignments import read_baseline
from tuning.cluster import gpu_share
from tuning.cluster.capacity import Capacity
from tuning.cluster.connection import find_cluster, join_cluster
from tuning.cluster.nodes import local_node
from tuning.cluster.queue import Queue
from tuning.cluster.remote import detect_environment
from tuning.cluster.tuner import run_queue
from tuning.doctor import doctor
from tuning.doctor.findings import Finding
from tuning.doctor.node_facts import Requirements
from tuning.options import Options
from tuning.records.lock import exclusive_lock
from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import open_storage
from tuning.records.storage import storage_errors
from tuning.reporting.export import export_method
from tuning.reporting.live_progress import Progress
from tuning.reporting.tables import lock_results, write_tables
from tuning.resources import Node, Resources, choose_resources, count_slots
from tuning.search.method_search import MethodSearch
from tuning.search.trial import Trial
from tuning.study.checks import (
    Plan,
    check,
    check_definition,
    definition,
    get_model_name,
    load_benchmark,
    refuse_existing_study,
)
from tuning.study.export_context import make_export_context
from tuning.study.stopping import INTERRUPTED, StopCondition, make_resume_command
from tuning.worker.trial_work import RunOptions, RunWork, TrialWork


def run(options: Options, reuse_actors: bool = True) -> int:
    """Run a study; return the exit code: 0, 1 where a method has no result, 130 after Ctrl-C.

    Args:
        options: The command.
        reuse_actors: Whether a process serves many trials; off only to measure what that saves.

    Raises:
        UserError: For a user's mistake, before anything is started or written.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    plan = check(options)
    options = plan.options
    for line in plan.skipped:
        console.print(line)
    address = find_cluster(options.address)
    if address is None:
        choose_resources([local_node()], options.cpus_per_trial, options.gpus_per_trial)
    stop = StopCondition(options)
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        nodes = stack.enter_context(join_cluster(address))
        resources = choose_resources(nodes, options.cpus_per_trial, options.gpus_per_trial)
        for warning in _preflight(plan, resources, alone=address is None):
            console.print(str(warning))
        environment = detect_environment(resources, options, remote=address is not None)
        stack.enter_context(stop.listening())  # again: Ray has put its own handlers in between
        records = [MethodRecords(options.records_of(s.method.name)) for s in plan.spaces]
        for record in records:
            stack.enter_context(exclusive_lock(record.storage))
        if not options.resume:
            refuse_existing_study(options)  # again: nobody else can come in between now
        asked = [definition(options, space, asdict(environment)) for space in plan.spaces]
        if options.resume and all(record.read_definition() is None for record in records):
            console.print(f"nothing to go on with in {options.records}: a new study begins")
        for record, defined in zip(records, asked, strict=True):
            record.check_readable()
            check_definition(record, defined)
        for record, defined in zip(records, asked, strict=True):
            record.write_definition(defined)
        resources, measured = gpu_share.choose_trial_resources(
            plan.spaces, records, options, environment, nodes, resources
        )
        if measured:
            console.print(measured)
        searches = [
            MethodSearch(space, options, environment, record)
            for space, record in zip(plan.spaces, records, strict=True)
        ]
        console.print(_headline(searches, options, nodes, resources))
        _search(searches, options, resources, nodes, stop, console, reuse_actors)
        return _report(searches, options, stop, console)


def _preflight(plan: Plan, resources: Resources, alone: bool) -> list[Finding]:
    """Ask the nodes for what would make the study fail; return the warnings."""
    options = plan.options
    requirements = Requirements(
        dataset=options.dataset,
        data_root=str(options.data_root.absolute()),
        storages=(options.records,),
        models=tuple(dict.fromkeys(get_model_name(space) for space in plan.spaces)),
        cpus=resources.cpus,
        gpus=resources.gpus,
    )
    return doctor.preflight_check(requirements, options.results, single_machine=alone)


def _headline(
    searches: list[MethodSearch], options: Options, nodes: list[Node], resources: Resources
) -> str:
    """Return what is about to happen, in a line."""
    budgets = dict.fromkeys(str(search.trial_budget) for search in searches)
    kept = sum(t.is_finished for s in searches for t in (*s.trials.values(), *s.seeds.values()))
    device = searches[0].environment.device_class
    return (
        f"{', '.join(search.name for search in searches)} on {options.dataset}: "
        f"{' or '.join(budgets)} trials each ({options.search}, {options.scheduler}) of "
        f"{searches[0].epoch_counts.eligible} epochs, then {options.seeds} fresh seeds; "
        f"{count_slots(nodes, resources)} at once on {len(nodes)} node(s)"
        + (f", each GPU a slice ({device})" if " MIG " in device else "")
        + (f"; {kept} finished already" if kept else "")
    )


def _search(
    searches: list[MethodSearch],
    options: Options,
    resources: Resources,
    nodes: list[Node],
    stop: StopCondition,
    console: Console,
    reuse_actors: bool,
) -> None:
    """Run all methods' trials and seeds in one queue, exporting each method when it is done."""

    def spent() -> float:
        return sum(search.sum_device_seconds(resources) for search in searches) / 3600

    stop.device_hours = spent
    exported: set[str] = set()

    def export_done() -> None:
        for search in searches:
            if search.is_done and search.name not in exported:
                exported.add(search.name)
                _export([search], options, resources)

    count = count_slots(nodes, resources)
    progress = Progress(searches, count, console)
    with progress.show() as show_change:

        def changed(search: MethodSearch, trial: Trial) -> None:
            show_change(search, trial)
            if trial.is_finished:
                export_done()

        def encode_work(trial: Trial) -> str:
            taken = resources.whole_gpu if trial.oom_reason else resources
            return make_work(trial, options, taken).to_json()

        capacity = Capacity(
            resources, lambda: sum(search.count_unfinished() for search in searches)
        )
        queue = Queue(searches, capacity, encode_work, stop, changed)
        run_queue(queue, capacity, resources, reuse_actors)
    for search in searches:
        search.restore_ended_trials()
    _export(searches, options, resources)


def make_work(trial: Trial, options: Options, resources: Resources) -> TrialWork:
    """Return the work of a trial for an actor."""
    benchmark = load_benchmark(options)
    run_options = RunOptions(
        rule=options.select or benchmark.selection_metric,
        confirm=trial.phase == "confirm",
        audit=options.audit_test,
        keep_model=options.keep_models,
        data_root=str(options.data_root.absolute()),
        baseline=read_baseline(options.baseline),
    )
    runs = tuple(
        RunWork(str(folder.storage), key)
        for folder, key in zip(trial.runs, trial.keys, strict=True)
    )
    return TrialWork(runs, run_options, resources.gpus)


def _export(searches: list[MethodSearch], options: Options, resources: Resources) -> None:
    with storage_errors(open_storage(options.results)), lock_results(options.results):
        for search in searches:
            search.records.write_context(make_export_context(search, options, resources))
            export_method(search.records, options.results)
        write_tables(options.results)


def _report(
    searches: list[MethodSearch], options: Options, stop: StopCondition, console: Console
) -> int:
    """Print the table and what is left to say; return the exit code."""
    table = options.results / options.dataset / "table.md"
    if table.exists():
        console.print(table.read_text(encoding="utf-8"))
    for search in searches:
        failed = [t for t in (*search.trials.values(), *search.seeds.values())
                  if t.status == "failed"]  # fmt: skip
        for trial in failed[:3]:
            print(f"{search.name} {trial.name} failed: {trial.reason}", file=sys.stderr)
        if len(failed) > 3:
            print(f"{search.name}: {len(failed) - 3} more failed (trials.csv)", file=sys.stderr)
    console.print(f"results: {Path(options.results, options.dataset)}")
    empty = [s.name for s in searches if not any(t.is_finished and t.best and t.status != "failed"
                                                 for t in s.seeds.values())]  # fmt: skip
    if stop.reason:
        if empty:
            console.print(f"no result yet: {', '.join(empty)}")
        console.print(f"stopped: {stop.reason}; go on with:")
        console.print(f"  {make_resume_command()}")
        if stop.reason == INTERRUPTED:
            return 130
    for name in empty if not stop.reason else ():
        print(f"{name}: no trial or no confirmation seed succeeded", file=sys.stderr)
    return 1 if empty else 0
