"""A study from start to end: check, search, select, confirm, export."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from rich.console import Console

from common.errors import UserError
from core.constant_prediction import measure_constant_predictions
from core.training.selection import RULES, Rule
from tuning.cluster import gpu_share
from tuning.cluster.addresses import find_cluster
from tuning.cluster.capacity import Capacity
from tuning.cluster.connection import join_cluster
from tuning.cluster.nodes import local_node
from tuning.cluster.queue import Queue
from tuning.cluster.remote import detect_trial_environment
from tuning.cluster.tuner import run_queue
from tuning.doctor.findings import Finding
from tuning.doctor.node_facts import Requirements
from tuning.doctor.run_checks import preflight_check
from tuning.loggers.study_logs import StudyLogs, make_study_logs
from tuning.options import Options
from tuning.records.lock import exclusive_lock
from tuning.records.open_storage import open_storage
from tuning.records.run_data import Phase
from tuning.records.storage import storage_errors
from tuning.reporting.export_method import export_method
from tuning.reporting.live_progress import Progress, format_elapsed
from tuning.reporting.study_results import StudyResults
from tuning.reporting.tables import lock_results, write_tables
from tuning.resources import Resources, choose_resources, count_slots
from tuning.search.method_search import MethodSearch
from tuning.search.trial import Trial
from tuning.study.checks import (
    CheckedStudy,
    check_study,
    list_model_names,
    refuse_existing_study,
)
from tuning.study.cost import is_finished_on_record
from tuning.study.make_definition import check_definition, make_definition
from tuning.study.make_export_context import make_export_context
from tuning.study.messages import describe_study, print_summary
from tuning.study.stopping import StopCondition
from tuning.study.study_file import StudyCommand, write_study_file
from tuning.worker.trial_work import RunOptions, RunWork, TrialWork

# Of the estimated cost of confirmation, the part of a budget that is kept for it: for the epoch
# that running trials finish, the start of processes, and epochs longer than the mean.
RESERVE_FACTOR = 1.5
# Of a time limit, for each confirmation seed of a slot besides its epochs: its data, model and the
# evaluation of the test split, also on a machine that is busy.
SEED_START_SECONDS = 4.0


def run_study(
    options: Options, reuse_actors: bool = True, command: StudyCommand | None = None
) -> StudyResults:
    """Run a study; return its results and the exit code.

    Args:
        options: The options of the study.
        reuse_actors: Whether a process serves many trials; off only to measure what that saves.
        command: The command, where it has several data sets.

    Raises:
        UserError: For a user's mistake, before anything is started or written.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    _print_step(console, "checking methods and data")
    asked_finalists = options.finalists  # others follow from the rule, which may change
    study = check_study(options)
    options = study.options
    for line in study.notes:
        console.print(line)
    address = find_cluster(options.address)
    needs_ray = True
    if address is None:
        nodes = [local_node()]
        resources = choose_resources(nodes, options.cpus_per_trial, options.gpus_per_trial)
        needs_ray = resources.gpus > 0 or not _is_finished(study)
    stop = StopCondition(options.time_limit, options.max_device_hours)
    with ExitStack() as stack:
        if needs_ray:
            _print_step(console, "joining the cluster" if address else "starting Ray")
            nodes = stack.enter_context(join_cluster(address))
            resources = choose_resources(nodes, options.cpus_per_trial, options.gpus_per_trial)
        for warning in _check_nodes(study, resources, single_machine=address is None):
            console.print(str(warning))
        environment = detect_trial_environment(resources, options, remote=address is not None)
        running = stack.enter_context(ExitStack())
        running.enter_context(stop.handle_signals())  # until here a signal ends the process
        records = study.records
        for record in records:
            stack.enter_context(exclusive_lock(record.storage))
        if not options.resume:
            refuse_existing_study(options, records)  # again, now that the locks keep others out
        elif all(record.read_definition() is None for record in records):
            console.print(f"no study found in {options.records}; starting a new one")
        definitions = [
            make_definition(options, study.rule, space, environment) for space in study.spaces
        ]
        for record, definition in zip(records, definitions, strict=True):
            record.check_readable()
            check_definition(record, definition)
        for record, definition in zip(records, definitions, strict=True):
            record.write_definition(definition)
        own = replace(options, dataset=study.benchmark.reference, finalists=asked_finalists)
        command = command or StudyCommand(own, (own.dataset,))
        write_study_file(command, records)
        resources, message = gpu_share.choose_trial_resources(
            study.spaces, records, options, study.baseline, environment, nodes, resources
        )
        if message:
            console.print(message)
        searches = [
            MethodSearch(space, options, environment, record, study.rule)
            for space, record in zip(study.spaces, records, strict=True)
        ]
        if not needs_ray and not all(search.is_done for search in searches):
            stack.enter_context(join_cluster(address))  # such as for the seeds of another winner
        console.print(describe_study(searches, options, nodes, resources))
        slots = count_slots(nodes, resources)
        progress = Progress(searches, slots, console)
        reference = study.benchmark.reference
        others = [rule for rule in RULES.values() if not rule.oracle and rule != study.rule]
        constants = measure_constant_predictions(study.benchmark, [study.rule, *others])
        run_options = replace(
            make_run_options(options, study.rule, study.baseline, reference),
            constant_metric=constants.get(study.rule.name),
        )
        logs = stack.enter_context(make_study_logs(options, console.print))
        study_run = _StudyRun(
            searches, options, run_options, constants, resources, slots, stop, progress, logs
        )
        study_run.run(reuse_actors)
        running.close()  # from here on too: all is exported
        code = print_summary(searches, options, stop, console, command.options.max_device_hours)
        return StudyResults(options.results / study.benchmark.name, code)


def _is_finished(study: CheckedStudy) -> bool:
    """Return whether a resumed study has all that it asks for on record."""
    pairs = zip(study.spaces, study.records, strict=True)
    return study.options.resume and all(
        is_finished_on_record(study.options, space, records) for space, records in pairs
    )


def _print_step(console: Console, text: str) -> None:
    """Say on a terminal what the start of a study does."""
    if console.is_terminal:
        console.print(f"{format_elapsed()} {text}")


def _check_nodes(study: CheckedStudy, resources: Resources, single_machine: bool) -> list[Finding]:
    """Check the nodes for errors that would make the study fail; return the warnings."""
    options = study.options
    requirements = Requirements(
        dataset=study.benchmark.reference,
        data_root=str(options.data_root.absolute()),
        storages=(options.records,),
        models=tuple(
            dict.fromkeys(n for s in study.spaces for n in list_model_names(s, options.search))
        ),
        cpus=resources.cpus,
        gpus=resources.gpus,
    )
    return preflight_check(requirements, options.results, single_machine)


@dataclass
class _StudyRun:
    """Runs all methods' trials in one queue and exports each method when it is done."""

    searches: Sequence[MethodSearch]
    options: Options
    run_options: RunOptions
    constants: Mapping[str, float]
    resources: Resources
    slots: int
    stop: StopCondition
    progress: Progress
    logs: StudyLogs
    exported: set[str] = field(default_factory=set)

    def run(self, reuse_actors: bool) -> None:
        for search in self.searches:  # so that exports can be made while it runs
            self._write_context(search)
        self._log_ended()
        if not all(search.is_done for search in self.searches):
            self._run_queue(reuse_actors)
        self._export_all()

    def _run_queue(self, reuse_actors: bool) -> None:
        with self.progress.show() as show_change:

            def handle_change(search: MethodSearch, trial: Trial) -> None:
                show_change(search, trial)
                if trial.is_finished:
                    self.logs.add_runs(search.records, trial.runs)
                    self._export_done()

            capacity = Capacity(self.resources, self._count_unfinished)
            queue = Queue(
                self.searches, capacity, self._encode_work, self._should_stop, handle_change
            )
            try:
                run_queue(queue, capacity, self.resources, reuse_actors)
            except UserError:
                with suppress(UserError):  # the first one counts, such as a full disk
                    self._export_all()
                raise

    def _export_all(self) -> None:
        for search in self.searches:
            search.restore_ended_trials()
        self._log_ended()
        self._export(self.searches)

    def _log_ended(self) -> None:
        """Log what ended in an earlier session, or without a report."""
        for search in self.searches:
            for trial in search.list_trials():
                if trial.is_finished:
                    self.logs.add_runs(search.records, trial.runs)

    def _should_stop(self) -> bool:
        if self.stop.is_limited:
            self._end_searches_in_time()
        return self.stop.should_stop(self._sum_device_hours)

    def _end_searches_in_time(self) -> None:
        """End the searches where the rest of the budget is needed for the confirmation seeds."""
        if all(search.is_search_done or search.is_closed for search in self.searches):
            return
        seconds = sum(search.estimate_confirmation_seconds() for search in self.searches)
        hours = RESERVE_FACTOR * seconds * self.resources.device_share / 3600
        longest = max(s.estimate_confirmation_seconds() / self.options.seeds for s in self.searches)
        waves = math.ceil(len(self.searches) * self.options.seeds / self.slots)
        waited = RESERVE_FACTOR * max(seconds / self.slots, longest) + SEED_START_SECONDS * waves
        if self.stop.should_end_searches(waited, hours, self._sum_device_hours):
            for search in self.searches:
                search.close()

    def _sum_device_hours(self) -> float:
        return sum(search.sum_device_seconds() for search in self.searches) / 3600

    def _count_unfinished(self) -> int:
        return sum(search.count_unfinished() for search in self.searches)

    def _encode_work(self, trial: Trial) -> str:
        resources = self.resources.whole_gpu if trial.oom_reason else self.resources
        return make_work(trial, self.run_options, resources).to_json()

    def _export_done(self) -> None:
        """Export the methods that are done and not exported yet."""
        for search in self.searches:
            if search.is_done and search.name not in self.exported:
                self.exported.add(search.name)
                self._export([search])

    def _export(self, searches: Sequence[MethodSearch]) -> None:
        results = self.options.results
        with storage_errors(open_storage(results)), lock_results(results):
            for search in searches:
                self._write_context(search)
                export_method(search.records, results)
            write_tables(results)

    def _write_context(self, search: MethodSearch) -> None:
        context = make_export_context(search, self.options, self.constants, self.slots)
        search.records.write_context(context)


def make_run_options(
    options: Options, rule: Rule, baseline: str, reference: str = ""
) -> RunOptions:
    """Return the options of a study for the runs of its search.

    Args:
        options: The command.
        rule: The selection rule.
        baseline: The text of the baseline file; empty for the benchmark's own.
        reference: The name or path by which workers find the data; empty for that of the key.
    """
    return RunOptions(
        rule=rule.name,
        confirm=False,
        audit=options.audit_test,
        keep_model=options.keep_models,
        data_root=str(options.data_root.absolute()),
        baseline=baseline,
        dataset=reference,
        report_training=options.report_training,
    )


def make_work(trial: Trial, options: RunOptions, resources: Resources) -> TrialWork:
    """Return the work of a trial for an actor.

    Args:
        trial: The trial.
        options: The study's options for the runs of its search.
        resources: The resources of the trial.
    """
    options = replace(options, confirm=trial.phase == Phase.CONFIRM)
    runs = tuple(
        RunWork(run.location, key) for run, key in zip(trial.runs, trial.keys, strict=True)
    )
    return TrialWork(runs, options, resources.gpus)
