"""The study, from top to bottom: check, search, select, confirm, export."""

import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

import datasets
from core import method as methods
from core import models
from core.arguments import read_baseline
from core.environment import Environment
from core.key import VERSION, defaults
from core.method import Method
from datasets.benchmark import Benchmark
from datasets.errors import Problems, UserError, unknown
from tuning import doctor, engine, selection
from tuning.diagnosis import Finding
from tuning.export import export_method
from tuning.lock import free, sole
from tuning.options import Options
from tuning.progress import Progress
from tuning.recorded_run import Duty
from tuning.records import MethodRecords, check_writable, differences
from tuning.resources import Node, Resources, choose, cluster, cluster_address, local_nodes, slots
from tuning.search import SEARCH_SEED, MethodSearch, Tried
from tuning.space import Space, make_searcher, make_space
from tuning.stopping import INTERRUPTED, StopSign, resume_command
from tuning.storage import check_usable, is_url, place, watched
from tuning.tables import locked, write_tables


@dataclass(frozen=True)
class Plan:
    """A checked command.

    Args:
        options: The command, with ``all`` replaced by names.
        benchmark: The benchmark.
        spaces: The space of each method.
        skipped: Methods of ``all`` that the benchmark cannot serve, with the reason.
    """

    options: Options
    benchmark: Benchmark
    spaces: list[Space]
    skipped: list[str]


def check(options: Options) -> Plan:
    """Check all that can be checked before anything starts; write nothing.

    Raises:
        UserError: At the first mistake that hides others, else with all of them at once.
    """
    if options.dataset not in datasets.names():
        raise UserError(f"--dataset: {unknown('data set', options.dataset, datasets.names())}")
    benchmark = load_benchmark(options)
    rule = selection.rule(options.select or benchmark.selecting)
    if rule.metric not in benchmark.directions:
        fitting = [name for name, r in selection.RULES.items() if r.metric in benchmark.directions]
        raise UserError(
            f"--select {rule.name}: data set '{benchmark.name}' has no {rule.metric}; "
            f"rules for it: {', '.join(fitting)}"
        )
    if rule.oracle and not options.audit_test:
        raise UserError(
            f"--select {rule.name} reads the test split: it needs --audit-test, and its results "
            "are labelled as chosen on the test split"
        )
    chosen, skipped = _methods(options, benchmark)
    options = replace(options, methods=tuple(method.name for method in chosen))
    known = {name for method in chosen for name in (*method.knobs(benchmark), *methods.SETTINGS)}
    problems = [f"--set: {unknown('knob', n, known)}" for n in options.pinned if n not in known]
    spaces: list[Space] = []
    for method in chosen:
        try:
            space = make_space(method, benchmark, options)
            make_searcher(space, options, 0)
            spaces.append(space)
        except Problems as found:
            problems += found.problems
        except UserError as error:
            problems.append(str(error))
    problems += _unfit_models(spaces)
    if problems:
        raise Problems(problems)
    if options.seeds > SEARCH_SEED:
        raise UserError(
            f"--seeds: received {options.seeds}, expected at most {SEARCH_SEED}: "
            "the seeds from there on are the search's"
        )
    _check_folders(options)
    if not options.resume:
        _check_new(options)
    _ = benchmark.splits  # reads and checks the data
    return Plan(options, benchmark, spaces, skipped)


def model_of(space: Space) -> str:
    """Return the model that a method's trials build."""
    return str({**defaults(space.method, space.benchmark), **space.fixed}["model"])


def _unfit_models(spaces: list[Space]) -> list[str]:
    """Return what is wrong with the models that trials would build, each once."""
    found: dict[str, None] = {}
    for space in spaces:
        method = space.method
        name = model_of(space)
        problem = models.unavailable(name)
        if problem is None and "encoder" in method.needs and models.plain(name):
            problem = (
                f"method '{method.name}' needs a model with hidden states per token or patch, and "
                f"model '{name}' has none; known: {', '.join(models.encoders())}, a transformer's "
                "public name, or a folder"
            )
        if problem is not None:
            found[problem] = None
    return list(found)


def load_benchmark(options: Options) -> Benchmark:
    """Return the benchmark of a command, with its baseline."""
    return datasets.load(options.dataset, str(options.data_root), read_baseline(options.baseline))


def _methods(options: Options, benchmark: Benchmark) -> tuple[list[Method], list[str]]:
    names = list(dict.fromkeys(options.methods))
    everything = names == ["all"]
    if "all" in names and not everything:
        raise UserError("--method: 'all' stands alone, without other names")
    problems: list[str] = []
    found: list[Method] = []
    for name in methods.names() if everything else names:
        try:
            found.append(methods.load(name))
        except Problems as error:
            problems += error.problems
        except UserError as error:
            problems.append(f"--method: {error}")
    if problems:
        raise Problems(problems)
    if not everything:
        return found, []
    fitting, skipped = [], []
    for method in found:
        missing = sorted(method.needs - benchmark.provides)
        unpublished = options.search == "published" and benchmark.name not in method.published
        if missing:
            skipped.append(f"{method.name} is left out: it needs {', '.join(missing)}")
        elif unpublished:
            skipped.append(f"{method.name} is left out: nothing is published for {benchmark.name}")
        else:
            fitting.append(method)
    if not fitting:
        raise Problems(skipped)
    return fitting, skipped


def _check_folders(options: Options) -> None:
    """Refuse folders that cannot be written or that would mix."""
    if os.path.abspath(options.results) == options.records:
        raise UserError("--storage: records need another folder than --results")
    for method in options.methods:
        check_writable("--results", options.results / options.dataset / method)
        if not is_url(options.records):
            check_writable("--storage", Path(options.records, options.dataset, method))
    if is_url(options.records):
        check_usable(place(options.records))


def _check_new(options: Options) -> None:
    """Refuse to touch results or records that exist."""
    for method in options.methods:
        exported = place(options.results / options.dataset / method)
        stored = options.records_of(method)
        existing = next((where for where in (exported, stored) if not free(where)), None)
        if existing is not None:
            raise UserError(
                f"'{existing}' holds a study of {method} on {options.dataset} already: add "
                "--resume to go on with it (more --trials or --seeds extend it), or name another "
                "folder with --results"
            )


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
    address = cluster_address(options.address)
    if address is None:
        choose(local_nodes(), options.cpus_per_trial, options.gpus_per_trial)
    stop = StopSign(options)
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        nodes = stack.enter_context(cluster(address))
        resources = choose(nodes, options.cpus_per_trial, options.gpus_per_trial)
        for warning in _preflight(plan, resources, alone=address is None):
            console.print(str(warning))
        environment = engine.probe(resources, options, remote=address is not None)
        stack.enter_context(stop.listening())  # again: Ray has put its own handlers in between
        records = [MethodRecords(options.records_of(s.method.name)) for s in plan.spaces]
        for record in records:
            stack.enter_context(sole(record.place))
        if not options.resume:
            _check_new(options)  # again: nobody else can come in between now
        asked = [definition(options, space, environment) for space in plan.spaces]
        if options.resume and all(record.definition is None for record in records):
            console.print(f"nothing to go on with in {options.records}: a new study begins")
        for record, defined in zip(records, asked, strict=True):
            record.check_readable()
            _check_definition(record, defined)
        for record, defined in zip(records, asked, strict=True):
            record.define(defined)
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
    return doctor.preflight(
        dataset=options.dataset,
        data_root=options.data_root,
        places=[options.records],
        models=list(dict.fromkeys(model_of(space) for space in plan.spaces)),
        cpus=resources.cpus,
        gpus=resources.gpus,
        alone=alone,
    )


def _headline(
    searches: list[MethodSearch], options: Options, nodes: list[Node], resources: Resources
) -> str:
    """Return what is about to happen, in a line."""
    budgets = dict.fromkeys(str(search.asked) for search in searches)
    kept = sum(t.finished for s in searches for t in (*s.trials.values(), *s.seeds.values()))
    return (
        f"{', '.join(search.name for search in searches)} on {options.dataset}: "
        f"{' or '.join(budgets)} trials each ({options.search}, {options.scheduler}) of "
        f"{searches[0].rounds()[0]} epochs, then {options.seeds} fresh seeds; "
        f"{slots(nodes, resources)} at once on {len(nodes)} node(s)"
        + (f"; {kept} finished already" if kept else "")
    )


def definition(options: Options, space: Space, environment: Environment) -> dict[str, Any]:
    """Return what makes a study the one it is; a resumed one must have the same."""
    return {
        "dataset": options.dataset,
        "dataset_version": space.benchmark.key_version,
        "data_hash": space.benchmark.data_hash,
        "recipe": space.method.recipe.fill({}),
        "space": {
            name: {"kind": knob.kind, "values": list(knob.values), "default": knob.default,
                   "when": {k: list(v) for k, v in knob.when.items()}}
            for name, knob in space.free.items()
        },
        "set": {name: value for name, value in space.fixed.items() if name in options.pinned},
        "protocol": defaults(space.method, space.benchmark),
        "epochs": options.epochs,
        "search": options.search,
        "search_seeds": options.search_seeds,
        "scheduler": options.scheduler,
        "select": options.select or space.benchmark.selecting,
        "study_seed": options.study_seed,
        "audit_test": options.audit_test,
        "keep_models": options.keep_models,
        "environment": asdict(environment),
        "core": VERSION,
    }  # fmt: skip


def _check_definition(records: MethodRecords, asked: dict[str, Any]) -> None:
    stored = records.definition
    if stored is None:
        return
    different = differences(stored, asked)
    if different:
        raise Problems(
            [
                f"--resume: the study in '{records.place}' is another one:",
                *(f"  {line}" for line in different),
                "give its options again, or name another folder with --results",
            ]
        )


def _search(
    searches: list[MethodSearch],
    options: Options,
    resources: Resources,
    nodes: list[Node],
    stop: StopSign,
    console: Console,
    reuse_actors: bool,
) -> None:
    """Run all methods' trials and seeds in one queue, exporting each method when it is done."""

    def spent() -> float:
        return sum(search.device_seconds(resources) for search in searches) / 3600

    stop.device_hours = spent
    exported: set[str] = set()

    def export_done() -> None:
        for search in searches:
            if search.done and search.name not in exported:
                exported.add(search.name)
                _export([search], options, resources)

    count = slots(nodes, resources)
    progress = Progress(searches, count, console)
    with progress.shown() as shown:

        def changed(search: MethodSearch, tried: Tried) -> None:
            shown(search, tried)
            if tried.finished:
                export_done()

        def work_of(tried: Tried) -> dict[str, Any]:
            return _work(tried, options, resources.whole_gpu if tried.short else resources)

        queue = engine.Queue(searches, count, work_of, stop, changed)
        engine.run(queue, resources, reuse_actors)
    _export(searches, options, resources)


def _work(tried: Tried, options: Options, resources: Resources) -> dict[str, Any]:
    """Return what an actor needs to train a configuration."""
    benchmark = load_benchmark(options)
    duty = Duty(
        rule=options.select or benchmark.selecting,
        confirm=tried.phase == "confirm",
        audit=options.audit_test,
        keep_model=options.keep_models,
        data_root=str(options.data_root.absolute()),
        baseline=read_baseline(options.baseline),
    )
    runs = [
        {"folder": str(folder.place), "key": key}
        for folder, key in zip(tried.folders, tried.keys, strict=True)
    ]
    return {"runs": runs, "duty": asdict(duty), "gpu_share": resources.gpus}


def _export(searches: list[MethodSearch], options: Options, resources: Resources) -> None:
    with watched(place(options.results)), locked(options.results):
        for search in searches:
            export_method(search, options, resources)
        write_tables(options.results)


def _report(
    searches: list[MethodSearch], options: Options, stop: StopSign, console: Console
) -> int:
    """Print the table and what is left to say; return the exit code."""
    table = options.results / options.dataset / "table.md"
    if table.exists():
        console.print(table.read_text(encoding="utf-8"))
    for search in searches:
        failed = [t for t in (*search.trials.values(), *search.seeds.values())
                  if t.status == "failed"]  # fmt: skip
        for tried in failed[:3]:
            print(f"{search.name} {tried.name} failed: {tried.reason}", file=sys.stderr)
        if len(failed) > 3:
            print(f"{search.name}: {len(failed) - 3} more failed (trials.csv)", file=sys.stderr)
    console.print(f"results: {Path(options.results, options.dataset)}")
    empty = [s.name for s in searches if not any(t.finished and t.best and t.status != "failed"
                                                 for t in s.seeds.values())]  # fmt: skip
    if stop.reason:
        if empty:
            console.print(f"no result yet: {', '.join(empty)}")
        console.print(f"stopped: {stop.reason}; go on with:")
        console.print(f"  {resume_command()}")
        if stop.reason == INTERRUPTED:
            return 130
    for name in empty if not stop.reason else ():
        print(f"{name}: no trial or no confirmation seed succeeded", file=sys.stderr)
    return 1 if empty else 0
