"""Checks of a command before its study starts."""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
from common.errors import (
    UserError,
    ValidationErrors,
    truncate_problems,
    unknown_name_message,
)
from common.text import format_count
from core import models
from core.models.pretrained.tokenizer import find_tokenizer_mismatch
from core.recipe.assignments import read_baseline
from core.recipe.method import Method
from core.recipe.method_files import ALIASES, list_methods, load_method
from core.training import selection
from core.training.selection import Rule
from datasets.benchmark import Benchmark
from datasets.environments.base import EnvironmentBenchmark
from datasets.groups.folder import Folder
from datasets.groups.text_table import TextBenchmark
from datasets.on_disk import OnDisk
from datasets.training_config import JOINED_SPLIT
from tuning.loggers.study_logs import check_loggers
from tuning.options import Options
from tuning.records.lock import is_empty
from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import check_storage, check_writable, open_storage
from tuning.records.storage import is_url
from tuning.reporting.summary import read_summaries
from tuning.search.finalist_race import DEFAULT_FINALISTS
from tuning.search.proposal import make_searcher
from tuning.search.space import Space, make_space
from tuning.search.trial_records import SEARCH_SEED
from tuning.study.make_definition import check_resumed_studies
from tuning.study.protocol import apply_protocol, describe_authors_protocol
from tuning.study.replay_memory import find_large_replays
from tuning.study.same_data import refuse_other_data


@dataclass(frozen=True)
class CheckedStudy:
    """A command that passed all checks.

    Args:
        options: The command, with ``all`` replaced by names.
        benchmark: The benchmark.
        baseline: The text of the baseline file; empty for the benchmark's own.
        rule: The selection rule.
        spaces: The search space of each method.
        records: The records of each method.
        notes: Messages to print first: methods that ``all`` skips, options without effect.
        absent: Data and weights that this machine lacks, a sentence each; only of a plan.
    """

    options: Options
    benchmark: Benchmark
    baseline: str
    rule: Rule
    spaces: list[Space]
    records: list[MethodRecords]
    notes: list[str]
    absent: list[str]


def check_study(options: Options, is_plan: bool = False) -> CheckedStudy:
    """Check everything that can be checked before anything starts; write nothing.

    Args:
        options: The command.
        is_plan: Whether the study is only planned, which works without data and weights where the
            data card says the sizes.

    Raises:
        UserError: With all mistakes at once, as far as one does not hide others.
    """
    check_loggers(options.log)
    datasets.check_name(options.dataset, options.data_root, "--dataset")
    # Read once: every trial has the baseline that its key names, also if the file changes later.
    baseline = read_baseline(options.baseline)
    benchmark = datasets.load_benchmark(options.dataset, str(options.data_root), baseline)
    options = replace(options, dataset=benchmark.name)
    options, expanded = apply_protocol(options, benchmark)
    rule = choose_rule(options, benchmark)
    if options.finalists is None and rule.margin and options.search != "published":
        options = replace(options, finalists=DEFAULT_FINALISTS)
    chosen, skipped = _choose_methods(options, benchmark)
    options = replace(options, methods=tuple(method.name for method in chosen))
    can_plan_by_card = is_plan and bool(benchmark.published_sizes)
    absent: list[str] = []
    if can_plan_by_card:
        options, absent = _set_absent_model_aside(options)
    known = {
        name
        for method in chosen
        for name in (
            *benchmark.search_space,
            *method.search,
            *method.options,
            *benchmark.training_config.as_dict(),
        )
    }
    problems = [
        f"{options.sources.get(n, '--set')}: {_describe_unknown(n, known)}"
        for n in (*options.pinned, *options.domains)
        if n not in known
    ]
    spaces: list[Space] = []
    for method in chosen:
        try:
            space = make_space(method, benchmark, options)
            make_searcher(space, options, 0)
            spaces.append(space)
        except ValidationErrors as found:
            problems += found.problems
        except UserError as error:
            problems.append(str(error))
    if can_plan_by_card:
        absent = absent or _find_missing_weights(spaces, options.search)
        absent += _find_missing_data(benchmark)
    else:
        problems += _find_missing_weights(spaces, options.search)
    problems += _check_models(spaces, options.search)
    problems += _check_training_splits(spaces, options.search, rule)
    problems += find_large_replays(spaces, options)
    if problems:
        problems += _find_missing_data(benchmark)
        raise ValidationErrors(list(dict.fromkeys(problems)))  # methods share mistakes
    if options.seeds > SEARCH_SEED:
        raise UserError(
            f"--seeds: received {options.seeds}, expected at most {SEARCH_SEED} seeds; seeds from "
            f"{SEARCH_SEED} up are reserved for the search"
        )
    records = _open_records(options)
    if not options.resume:
        refuse_existing_study(options, records)
    if not absent:
        benchmark.check_requirements()
        _ = benchmark.splits  # reads and checks the data
    if options.resume:
        check_resumed_studies(options, rule, spaces, records)
    if not absent:
        refuse_other_data(options, benchmark)
    protocol = expanded or describe_authors_protocol(options, benchmark, rule)
    notes = [*skipped, *protocol, *_list_ignored_options(options)]
    if isinstance(benchmark, Folder):
        notes += benchmark.list_notices()
    return CheckedStudy(options, benchmark, baseline, rule, spaces, records, notes, absent)


def choose_rule(options: Options, benchmark: Benchmark) -> Rule:
    """Return the selection rule of a command: the one that it names, else the benchmark's.

    The search ``auto`` takes a variant of the benchmark's, where there is one.

    Raises:
        UserError: If there is no such rule, or if it does not fit the benchmark or the command.
    """
    source = "--select"
    name = options.select
    if not name:
        name, source = (
            benchmark.default_selection_rule,
            f"data set '{benchmark.name}': default_selection_rule",
        )
        if options.search == "auto":
            name = selection.choose_variant(name)
    rule = selection.get_rule(name, source)
    selection.check_rule(rule, benchmark)
    if rule.oracle and not options.audit_test:
        raise UserError(
            f"--select {rule.name} reads the test split: it needs --audit-test, and its results "
            "are labeled as chosen on the test split"
        )
    return rule


def list_model_names(space: Space, search: str) -> list[str]:
    """Return the names of the models that a method's trials train; none for environments."""
    if isinstance(space.benchmark, EnvironmentBenchmark):
        return []
    return [str(name) for name in space.list_values("model", search)]


def _set_absent_model_aside(options: Options) -> tuple[Options, list[str]]:
    """Return a command without a model whose folder is not on this machine, and a message."""
    name = options.pinned.get("model")
    if not isinstance(name, str) or not Path(name).is_absolute() or Path(name).exists():
        return options, []
    pinned = {key: value for key, value in options.pinned.items() if key != "model"}
    return replace(options, pinned=pinned), [f"model '{name}': not on this machine, not checked"]


def _find_missing_weights(spaces: list[Space], search: str) -> list[str]:
    """Return a message for each model whose weights are neither here nor online."""
    named = {
        (name, _starts_from_scratch(space, search)): space.benchmark
        for space in spaces
        for name in list_model_names(space, search)
    }
    problems = (_check_weights(*asked, benchmark) for asked, benchmark in named.items())
    return [problem for problem in problems if problem is not None]


def _starts_from_scratch(space: Space, search: str) -> bool:
    """Return whether all trials need a model's configuration only."""
    given = space.find_common_values(search)
    if "from_scratch" in space.free and "from_scratch" not in given:
        return False
    return bool(given.get("from_scratch", space.resolved.training_config.from_scratch))


def _check_training_splits(spaces: list[Space], search: str, rule: Rule) -> list[str]:
    """Return a message if trials train on the split that their rule reads."""
    joined = [space.resolved.name for space in spaces if _joins_splits(space, search)]
    reason = selection.explain_trained_split(rule, JOINED_SPLIT)
    if not joined or not reason:
        return []
    return [
        f"{reason} ({', '.join(joined)}): it needs --audit-test --select published_last10, as "
        "--protocol published gives"
    ]


def _joins_splits(space: Space, search: str) -> bool:
    """Return whether a trial may train on the validation split."""
    return JOINED_SPLIT in space.list_values("training_split", search)


def _check_models(spaces: list[Space], search: str) -> list[str]:
    """Return a message for each model that does not fit the data or the method."""
    found: dict[str, None] = {}
    for space, name in [(s, name) for s in spaces for name in list_model_names(s, search)]:
        method = space.method
        problem = find_tokenizer_mismatch(name, space.benchmark)
        if problem is None and "encoder" in method.needs and models.lacks_hidden_states(name):
            problem = (
                f"method '{method.name}' needs a model with hidden states per token or patch, and "
                f"model '{name}' has none; known: {', '.join(models.list_encoders())}, a "
                "transformer's public name, or a folder"
            )
        if problem is not None:
            found[problem] = None
    return list(found)


def _check_weights(name: str, from_scratch: bool, benchmark: Benchmark) -> str | None:
    problem = models.check_model_weights(name, from_scratch)
    if problem is None or not isinstance(benchmark, OnDisk):
        return problem
    small = models.list_small_encoders(benchmark.modality)
    if not small:
        return problem
    return f"{problem}. For a try without a download: --set model={small[0]} (small, untrained)"


def _choose_methods(options: Options, benchmark: Benchmark) -> tuple[list[Method], list[str]]:
    names = list(dict.fromkeys(ALIASES.get(name, name) for name in options.methods))
    everything = names == ["all"]
    if "all" in names and not everything:
        raise UserError("--method: 'all' cannot be combined with other names")
    problems: list[str] = []
    found: list[Method] = []
    for name in list_methods() if everything else names:
        try:
            found.append(load_method(name))
        except ValidationErrors as error:
            problems += error.problems
        except UserError as error:
            problems.append(f"--method: {error}")
    if problems:
        raise ValidationErrors(problems)
    if not everything:
        return found, []
    fitting: list[Method] = []
    skipped: dict[str, list[str]] = {}  # names by reason
    for method in found:
        missing = sorted(method.needs - benchmark.provides)
        unpublished = options.search == "published" and benchmark.name not in method.published
        if missing:
            reason = f"data set '{benchmark.name}' has no {' and no '.join(missing)}"
            skipped.setdefault(reason, []).append(method.name)
        elif unpublished:
            reason = f"there are no published hyperparameters for {benchmark.name}"
            skipped.setdefault(reason, []).append(method.name)
        else:
            fitting.append(method)
    notes = [
        f"{format_count(len(skipped_names), 'method')} skipped, because {reason}: "
        f"{', '.join(skipped_names)}"
        for reason, skipped_names in skipped.items()
    ]
    if not fitting:
        raise ValidationErrors(notes)
    return fitting, notes


def _list_ignored_options(options: Options) -> list[str]:
    """Return a message if options have no effect because nothing is searched."""
    ignored = {
        "--trials": options.trials is not None,
        "--search-seeds": options.search_seeds > 1,
        "--finalists": options.finalist_count > 1,
        "a domain of --set or --space": bool(options.domains),
    }
    flags = [flag for flag, is_given in ignored.items() if is_given]
    if options.search != "published" or not flags:
        return []
    verb = "has" if len(flags) == 1 else "have"
    return [
        f"{' and '.join(flags)} {verb} no effect: --search published trains the published "
        "hyperparameters alone"
    ]


def _find_missing_data(benchmark: Benchmark) -> list[str]:
    """Return the missing files of a data set that is not prepared, so that all is said at once."""
    if isinstance(benchmark, OnDisk) and not benchmark.folder.is_dir():
        return truncate_problems(benchmark.find_problems()).problems
    try:
        if isinstance(benchmark, TextBenchmark) and benchmark.modality == "text":
            _ = benchmark.vocabulary
    except UserError as error:
        return [str(error)]
    return []


def _open_records(options: Options) -> list[MethodRecords]:
    """Return the records of each method.

    Refuse folders that cannot be written, and results and records in one folder.
    """
    read_summaries(options.results)  # refuses those of another version
    if os.path.abspath(options.results) == options.records:
        raise UserError("--storage: received the --results folder, expected another one")
    for method in options.methods:
        check_writable("--results", options.results / options.dataset / method)
        if not is_url(options.records):
            check_writable("--storage", Path(options.records, options.dataset, method))
    root = open_storage(options.records)
    if is_url(options.records):
        check_storage(root)
    return [MethodRecords(root / options.dataset / method) for method in options.methods]


def refuse_existing_study(options: Options, records: Sequence[MethodRecords]) -> None:
    """Refuse to overwrite results or records."""
    for method, record in zip(options.methods, records, strict=True):
        exported = open_storage(options.results / options.dataset / method)
        both = (exported, record.storage)
        existing = next((storage for storage in both if not is_empty(storage)), None)
        if existing is not None:
            raise UserError(
                f"'{existing}' already holds a study of {method} on {options.dataset}: add "
                "--resume to continue it (more --trials, --seeds or --finalists extend it), or "
                "choose another --results folder"
            )


def _describe_unknown(name: str, known: Collection[str]) -> str:
    """Return the message for a hyperparameter that none of the given methods has."""
    having = []
    for other in list_methods():
        with suppress(UserError):  # a mistake in a file that the command does not use
            method = load_method(other)
            having += [other] if name in method.search or name in method.options else []
    if not having:
        return unknown_name_message("hyperparameter", name, known)
    listed = ", ".join(having[:3]) + (", ..." if len(having) > 3 else "")
    return f"'{name}' is a hyperparameter of {listed}, not of the given methods"
