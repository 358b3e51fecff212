"""What a command asks for, checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from common.hyperparameters import Hyperparameters
from tuning.records.open_storage import open_storage
from tuning.records.storage import Storage, make_absolute

AUTO: Final = "auto"
Gpus = float | Literal["auto"] | None  # of a trial, as asked


@dataclass(frozen=True)
class Options:
    """A command's options, as ``python tune.py --help`` describes them.

    Args:
        methods: Methods, or ``("all",)``.
        dataset: The benchmark.
        trials: Configurations per method; None for the search's default.
        epochs: Epochs of the last stage; None for the benchmark's.
        search: ``tpe``, ``random``, ``grid`` or ``published``.
        search_seeds: Training seeds averaged per configuration.
        scheduler: ``asha`` or ``none``.
        select: Selection rule; None for the benchmark's.
        seeds: Confirmation seeds.
        study_seed: Seed of the search itself.
        pinned: Values that ``--set`` fixes.
        gpus_per_trial: Share or number of GPUs of a trial; None takes one where there is one, and
            ``auto`` the share of it that a probe finds to be enough.
        cpus_per_trial: CPUs, and threads, of a trial.
        max_device_hours: Budget over all trials; None for none.
        time_limit: Budget of this command in seconds; None for none.
        address: Ray cluster; None for the running one or a local one.
        storage: Folder or URL of the records; None for ``<results>.records``.
        data_root: Folder of the data sets.
        baseline: Baseline file of delta-m; None for the data set's own.
        results: Folder of the exports.
        resume: Whether to go on with a study that exists.
        audit_test: Whether to record test metrics of every epoch, for labelled rules.
        deterministic: Whether CUDA computes the same bits for the same key.
        precision: One of :data:`core.environment.PRECISIONS`.
        keep_models: Whether the best confirmation seed's weights are exported.
    """

    methods: tuple[str, ...]
    dataset: str
    trials: int | None = None
    epochs: int | None = None
    search: str = "tpe"
    search_seeds: int = 1
    scheduler: str = "asha"
    select: str | None = None
    seeds: int = 5
    study_seed: int = 0
    pinned: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    gpus_per_trial: Gpus = None
    cpus_per_trial: int = 1
    max_device_hours: float | None = None
    time_limit: float | None = None
    address: str | None = None
    storage: str | Path | None = None
    data_root: Path = Path("data")
    baseline: Path | None = None
    results: Path = Path("results")
    resume: bool = False
    audit_test: bool = False
    deterministic: bool = False
    precision: str = "auto"
    keep_models: bool = False

    @property
    def records(self) -> str:
        """The folder of the records, absolute, because workers run elsewhere; or their URL."""
        results = Path(os.path.abspath(self.results))
        beside = results.parent / f"{results.name}.records"
        return make_absolute(beside if self.storage is None else self.storage)

    def records_of(self, method: str) -> Storage:
        """Return where a method's records lie.

        Raises:
            UserError: If they cannot be reached.
        """
        return open_storage(self.records) / self.dataset / method

    @property
    def fixed(self) -> Hyperparameters:
        """All values that the command fixes."""
        return {**self.pinned, **({} if self.epochs is None else {"epochs": self.epochs})}
