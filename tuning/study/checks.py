"""What is checked before a study starts, and what makes it the study it is."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
from common.errors import UserError, ValidationErrors, unknown_name_message
from core import models
from core.models.pretrained.tokenizer import find_tokenizer_mismatch
from core.recipe.assignments import read_baseline
from core.recipe.method import Method
from core.recipe.method_files import list_methods, load_method
from core.recipe.training_rules import TRAINING_CONFIG_FIELDS
from core.recipe.trial_key import VERSION
from datasets.benchmark import Benchmark
from tuning import selection
from tuning.options import Options
from tuning.records.lock import is_empty
from tuning.records.method_records import MethodRecords, describe_differences
from tuning.records.open_storage import check_storage, check_writable, open_storage
from tuning.records.storage import is_url
from tuning.reporting.summary import read_summaries
from tuning.search.proposal import make_searcher
from tuning.search.space import Space, make_space
from tuning.search.trial_records import SEARCH_SEED


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
    if options.dataset not in datasets.list_benchmarks():
        message = unknown_name_message("data set", options.dataset, datasets.list_benchmarks())
        raise UserError(f"--dataset: {message}")
    benchmark = load_benchmark(options)
    rule = selection.get_rule(options.select or benchmark.selection_metric)
    if rule.metric not in benchmark.higher_is_better:
        fitting = [
            name for name, r in selection.RULES.items() if r.metric in benchmark.higher_is_better
        ]
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
    known = {
        name
        for method in chosen
        for name in (*benchmark.search_space, *method.search, *TRAINING_CONFIG_FIELDS)
    }
    problems = [
        f"--set: {unknown_name_message('hyperparameter', n, known)}"
        for n in options.pinned
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
    problems += _unfit_models(spaces)
    if problems:
        raise ValidationErrors(problems)
    if options.seeds > SEARCH_SEED:
        raise UserError(
            f"--seeds: received {options.seeds}, expected at most {SEARCH_SEED}: "
            "the seeds from there on are the search's"
        )
    _check_folders(options)
    if not options.resume:
        refuse_existing_study(options)
    _ = benchmark.splits  # reads and checks the data
    if options.resume:
        _check_same(options, spaces)
    return Plan(options, benchmark, spaces, skipped)


def get_model_name(space: Space) -> str:
    """Return the model that a method's trials build."""
    return str(space.fixed.get("model", space.resolved.training_config.model))


def _unfit_models(spaces: list[Space]) -> list[str]:
    """Return what is wrong with the models that trials would build, each once."""
    found: dict[str, None] = {}
    for space in spaces:
        method = space.method
        name = get_model_name(space)
        problem = models.check_model_weights(name) or find_tokenizer_mismatch(name, space.benchmark)
        if problem is None and "encoder" in method.needs and models.lacks_hidden_states(name):
            problem = (
                f"method '{method.name}' needs a model with hidden states per token or patch, and "
                f"model '{name}' has none; known: {', '.join(models.list_encoders())}, a "
                "transformer's public name, or a folder"
            )
        if problem is not None:
            found[problem] = None
    return list(found)


def load_benchmark(options: Options) -> Benchmark:
    """Return the benchmark of a command, with its baseline."""
    return datasets.load_benchmark(
        options.dataset, str(options.data_root), read_baseline(options.baseline)
    )


def _methods(options: Options, benchmark: Benchmark) -> tuple[list[Method], list[str]]:
    names = list(dict.fromkeys(options.methods))
    everything = names == ["all"]
    if "all" in names and not everything:
        raise UserError("--method: 'all' stands alone, without other names")
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
        raise ValidationErrors(skipped)
    return fitting, skipped


def _check_folders(options: Options) -> None:
    """Refuse folders that cannot be written or that would mix."""
    read_summaries(options.results)  # refuses those of another version
    if os.path.abspath(options.results) == options.records:
        raise UserError("--storage: records need another folder than --results")
    for method in options.methods:
        check_writable("--results", options.results / options.dataset / method)
        if not is_url(options.records):
            check_writable("--storage", Path(options.records, options.dataset, method))
    if is_url(options.records):
        check_storage(open_storage(options.records))


def refuse_existing_study(options: Options) -> None:
    """Refuse to touch results or records that exist."""
    for method in options.methods:
        exported = open_storage(options.results / options.dataset / method)
        stored = options.records_of(method)
        existing = next((where for where in (exported, stored) if not is_empty(where)), None)
        if existing is not None:
            raise UserError(
                f"'{existing}' holds a study of {method} on {options.dataset} already: add "
                "--resume to go on with it (more --trials or --seeds extend it), or name another "
                "folder with --results"
            )


def _check_same(options: Options, spaces: Sequence[Space]) -> None:
    """Refuse to go on with another study, as far as that shows before the devices are known."""
    for space in spaces:
        records = MethodRecords(options.records_of(space.method.name))
        records.check_readable()
        environment = (records.read_definition() or {}).get("environment")
        check_definition(records, definition(options, space, environment))


def definition(
    options: Options, space: Space, environment: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what makes a study the one it is; a resumed one must have the same.

    Args:
        options: The command.
        space: The method's space.
        environment: Where trials compute, as it is recorded.
    """
    return {
        "dataset": options.dataset,
        "dataset_version": space.benchmark.key_version,
        "data_hash": space.benchmark.data_hash,
        "recipe": space.resolved.recipe.as_dict(),
        "space": {
            name: {
                "kind": hyperparameter.kind,
                "values": list(hyperparameter.values),
                "default": hyperparameter.default,
                "when": {k: list(v) for k, v in hyperparameter.when.items()},
            }
            for name, hyperparameter in space.free.items()
        },
        "set": {name: value for name, value in space.fixed.items() if name in options.pinned},
        "training_config": space.resolved.training_config.as_dict(),
        "epochs": options.epochs,
        "search": options.search,
        "search_seeds": options.search_seeds,
        "scheduler": options.scheduler,
        "select": options.select or space.benchmark.selection_metric,
        "study_seed": options.study_seed,
        "audit_test": options.audit_test,
        "keep_models": options.keep_models,
        "environment": environment,
        "core": VERSION,
    }  # fmt: skip


def check_definition(records: MethodRecords, asked: dict[str, Any]) -> None:
    """Refuse to go on with a study that is another one than asked for."""
    stored = records.read_definition()
    if stored is None:
        return
    different = describe_differences(stored, asked)
    if different:
        raise ValidationErrors(
            [
                f"--resume: the study in '{records.storage}' is another one:",
                *(f"  {line}" for line in different),
                "give its options again, or name another folder with --results",
            ]
        )
