"""Describe a study for its exports, which read nothing but records."""

from collections.abc import Mapping

from core.recipe.method import IMPLIED_NEEDS
from datasets.benchmark import Benchmark
from datasets.groups.folder import Folder
from datasets.multitask.base import TaskBenchmark
from datasets.training_config import TrainingConfig
from tuning.options import Options
from tuning.records.export_context import BaselineSource, CommandOptions, ExportContext
from tuning.search.method_search import MethodSearch


def make_export_context(
    search: MethodSearch,
    options: Options,
    constant_metrics: Mapping[str, float] | None = None,
    slots: int = 0,
) -> ExportContext:
    """Return the facts about a method's study that its exports contain beyond its runs.

    Args:
        search: The method.
        options: The command.
        constant_metrics: The metric of a constant prediction by rule, where known.
        slots: Trials that run at once; 0 where unknown.
    """
    benchmark, constants = search.space.benchmark, dict(constant_metrics or {})
    return ExportContext(
        method=search.name,
        dataset=benchmark.name,
        dataset_version=benchmark.version,
        data_hash=benchmark.data_hash,
        baseline=_describe_baseline(benchmark),
        as_percent=benchmark.as_percent,
        # The tasks of a run, and so their metrics, may be the training config's.
        higher_is_better=dict(benchmark.configure(search.training_config).higher_is_better),
        reported_metrics=list(benchmark.reported_metrics),
        # All that a folder's own file sets is in the command, in case that file changes.
        training_config=_find_default_config(benchmark).as_dict(),
        needs=sorted(search.space.method.needs - IMPLIED_NEEDS),
        gradients=search.training_config.gradients,
        epochs_per_trial=search.epoch_counts.eligible,
        environment=search.environment,
        rule=search.rule.name,
        search=options.search,
        scheduler=options.scheduler,
        trials=search.expected_trials,
        search_seeds=options.search_seeds,
        seeds=options.seeds,
        published=None if search.searcher is not None else search.select_hyperparameters(),
        keep_models=options.keep_models,
        command=CommandOptions(
            # Own data are found from any folder, also where another one has such a data root.
            data_root=str(
                options.data_root.absolute() if isinstance(benchmark, Folder) else options.data_root
            ),
            baseline=None if options.baseline is None else str(options.baseline),
            deterministic=options.deterministic,
            precision=options.precision,
            select=options.select,
            audit_test=options.audit_test,
            gpus_per_trial=options.gpus_per_trial,
            cpus_per_trial=options.cpus_per_trial,
            report_training=options.report_training,
            dataset=benchmark.reference if isinstance(benchmark, Folder) else "",
        ),
        defaults=search.space.resolved.complete_values({}),
        default_proposal=search.space.default_proposal,
        best_published=dict(search.space.resolved.published or {}),
        search_space={}
        if search.searcher is None
        else {name: domain.as_mapping() for name, domain in search.space.free.items()},
        class_names=list(benchmark.list_class_names()),
        group_names=list(benchmark.list_group_names("test")),
        train_group_names=list(benchmark.list_group_names("train")),
        constant_metric=constants.get(search.rule.name),
        constant_metrics=constants,
        slots=slots,
        finalists=options.finalist_count,
    )


def _find_default_config(benchmark: Benchmark) -> TrainingConfig:
    return benchmark.default_config if isinstance(benchmark, Folder) else benchmark.training_config


def _describe_baseline(benchmark: Benchmark) -> BaselineSource | None:
    if not isinstance(benchmark, TaskBenchmark):
        return None
    found = benchmark.baseline
    return BaselineSource(found.name, found.version, found.source, found.batch_averaged)
