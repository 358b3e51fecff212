"""The facts about a study that its exports contain beyond its runs: ``export.json``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Literal, Self

from common.hyperparameters import Hyperparameters
from core.environment import Environment
from tuning.records.decoding import decode_fields, decode_optional


@dataclass(frozen=True)
class BaselineSource:
    """The single-task models that delta-m compares with.

    Args:
        name: Name of the baseline.
        version: Its version.
        source: Where its metrics come from.
        batch_averaged: Whether its metrics are means over batches, as in published code.
    """

    name: str
    version: str
    source: str
    batch_averaged: bool


@dataclass(frozen=True)
class CommandOptions:
    """Options of the study that the commands to repeat it contain.

    Args:
        data_root: Folder of the data sets.
        baseline: Baseline file of delta-m; None for the data set's own.
        deterministic: Whether CUDA computes the same bits for the same key.
        precision: Number format, as asked.
        select: Selection rule, as asked; None for the search's.
        audit_test: Whether test metrics of every epoch are recorded.
        gpus_per_trial: Share or number of GPUs of a trial, as asked.
        cpus_per_trial: CPUs of a trial.
        report_training: Whether the training split is evaluated too.
        dataset: The name or path of own data; empty where the data set's name finds it.
    """

    data_root: str
    baseline: str | None
    deterministic: bool
    precision: str
    select: str | None
    audit_test: bool
    gpus_per_trial: float | Literal["auto"] | None
    cpus_per_trial: int
    report_training: bool = False
    dataset: str = ""


@dataclass(frozen=True)
class ExportContext:
    """The facts about a study that its exports contain beyond its runs.

    Args:
        method: The method.
        dataset: The data set.
        dataset_version: Its version.
        data_hash: Hash of its files.
        baseline: The baseline of delta-m; None for data sets without one.
        as_percent: Whether tables show its metrics in percent.
        higher_is_better: The direction of each metric.
        reported_metrics: The metrics of printed tables.
        training_config: The training config of the data set.
        needs: Special needs of the method, such as group labels.
        gradients: How per-task gradients are computed.
        epochs_per_trial: Epochs of a trial that selection may choose from.
        environment: Where trials compute.
        rule: Name of the selection rule.
        search: Name of the search.
        scheduler: Name of the scheduler.
        trials: Trials of the search.
        search_seeds: Training seeds of a trial.
        seeds: Confirmation seeds.
        published: The published hyperparameters, of a study without a search.
        keep_models: Whether the weights of the best seed are exported.
        command: Options for the commands that repeat a run.
        defaults: The value of every hyperparameter, option and training-config field where no
            command sets it.
        default_proposal: The default hyperparameters, which a rule with a margin prefers; None
            without.
        best_published: The published values of the method on the data set, which ``--search
            published`` takes where a command sets none; empty if there are none.
        class_names: The classes of a data set of groups.
        group_names: Its groups in validation and test.
        train_group_names: Its groups in training.
        search_space: The domains that it searches, by hyperparameter.
        constant_metric: The rule's metric of a constant prediction; None where unknown.
        constant_metrics: That of other rules, by name, where known.
        slots: Trials that ran at once when the study started; 0 where unknown.
        finalists: Best trials of the search that get further training seeds; 1 for none.
    """

    method: str
    dataset: str
    dataset_version: str
    data_hash: str
    baseline: BaselineSource | None
    as_percent: bool
    higher_is_better: Mapping[str, bool]
    reported_metrics: list[str]
    training_config: Hyperparameters
    needs: list[str]
    gradients: str
    epochs_per_trial: int
    environment: Environment
    rule: str
    search: str
    scheduler: str
    trials: int
    search_seeds: int
    seeds: int
    published: Hyperparameters | None
    keep_models: bool
    command: CommandOptions
    defaults: Hyperparameters = field(default_factory=dict)
    default_proposal: Hyperparameters | None = None
    best_published: Hyperparameters = field(default_factory=dict)
    search_space: Mapping[str, object] = field(default_factory=dict)
    constant_metric: float | None = None
    constant_metrics: Mapping[str, float] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    group_names: list[str] = field(default_factory=list)
    train_group_names: list[str] = field(default_factory=list)
    slots: int = 0
    finalists: int = 1

    def name_entries(self, split: str, metric: str, count: int) -> list[str]:
        """Return the names of the entries of a metric per class or group; numbers without names.

        Args:
            split: The split.
            metric: The metric, such as ``group_accuracy``.
            count: The number of its entries.
        """
        groups = self.train_group_names if split == "train" else self.group_names
        names = groups if metric.startswith("group") else self.class_names
        return names if len(names) == count else [str(number) for number in range(count)]

    def as_dict(self) -> dict[str, object]:
        """Return the content of ``export.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self | None:
        """Return the context that :meth:`as_dict` encoded; None for anything else."""
        try:
            found = decode_fields(
                cls,
                data,
                baseline=decode_optional(BaselineSource),
                environment=partial(decode_fields, Environment),
                command=partial(decode_fields, CommandOptions),
            )
            # The first one is that of messages and of the best method.
            return found if found.reported_metrics[0] in found.higher_is_better else None
        except (IndexError, KeyError, TypeError):
            return None
