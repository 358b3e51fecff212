"""The fixed parts of a training run, which steps, evaluation and stages share."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from common.errors import UserError
from core.augmentations.base import Augmentation
from core.environment import Environment
from core.objectives.base import Objective
from core.recipe.component import make_augmentation, make_objective, make_stage
from core.recipe.recipe import LossNames
from core.recipe.trial_key import TrialKey
from core.stages.base import Stage, count_stage_epochs, split_validation
from core.training.loader import Loader, duplicate_ids
from datasets.benchmark import Benchmark, Split
from datasets.training_config import JOINED_SPLIT, TrainingConfig


class EpochPosition(NamedTuple):
    """The position of an epoch in a run.

    Args:
        stage: Number of the stage, from 0.
        epoch: Number within the stage, from 0.
    """

    stage: int
    epoch: int


class ValidationHalves(NamedTuple):
    """The rows of a validation split of which one half refits the model and the other selects.

    Args:
        refitting: Rows that a stage refits on, ``(n,)`` int64.
        selection: Rows that are evaluated, ``(m,)`` int64.
    """

    refitting: Tensor
    selection: Tensor


@dataclass(frozen=True)
class RunContext:
    """The parts of a run that no epoch changes.

    Args:
        key: The trial key, of which the run is a pure function.
        benchmark: The benchmark that the key names.
        device: The device on which models compute.
        objectives: The recipe's objectives.
        stages: The recipe's stages.
        augmentation: The augmentation of training batches.
        loader: Loads batches of the benchmark's splits.
        losses: All losses, and those that the weighting covers.
        halves: The halves of the validation split; None where all of it is evaluated.
    """

    key: TrialKey
    benchmark: Benchmark
    device: torch.device
    objectives: tuple[Objective, ...]
    stages: tuple[Stage, ...]
    augmentation: Augmentation
    loader: Loader
    losses: LossNames
    halves: ValidationHalves | None

    @property
    def config(self) -> TrainingConfig:
        """The training config."""
        return self.key.training_config

    @property
    def environment(self) -> Environment:
        """The environment in which the run computes."""
        return self.key.environment

    @property
    def train(self) -> Split:
        """The training split, on the host."""
        return self.loader.train

    @property
    def validation(self) -> Split:
        """The validation split, on the host."""
        return self.benchmark.validation_split

    @property
    def total_epochs(self) -> int:
        """The epochs of all stages."""
        return sum(self.stage_epochs)

    @cached_property
    def stage_epochs(self) -> list[int]:
        """The epochs of each stage."""
        return count_stage_epochs(self.stages, self.config.epochs, self.config.epochs_cover)

    def locate_epoch(self, number: int) -> EpochPosition:
        """Return the position of the epoch with a number within the run, from 0.

        After the last epoch it is the last epoch's position.
        """
        for index, epochs in enumerate(self.stage_epochs):
            if number < epochs:
                return EpochPosition(index, number)
            number -= epochs
        return EpochPosition(len(self.stages) - 1, self.stage_epochs[-1] - 1)

    def make_generator(self, purpose: str, stage: int, epoch: int = 0) -> Generator:
        """Return the generator of a purpose, seeded by (seed, purpose, stage, epoch)."""
        return make_generator(self.key.seed, purpose, stage, epoch)


def make_context(key: TrialKey, benchmark: Benchmark) -> RunContext:
    """Return the context of a run.

    Raises:
        UserError: If the validation split has too few examples of a group to be halved.
    """
    benchmark = benchmark.configure(key.training_config)
    device = torch.device(key.environment.device)
    objectives = tuple(make_objective(part) for part in key.recipe.objectives)
    stages = tuple(make_stage(part) for part in key.recipe.stages)
    return RunContext(
        key=key,
        benchmark=benchmark,
        device=device,
        objectives=objectives,
        stages=stages,
        augmentation=make_augmentation(key.training_config.augmentation),
        loader=Loader(benchmark, device, key.training_config.training_split == JOINED_SPLIT),
        losses=key.recipe.name_losses(objectives, benchmark),
        halves=_halve_validation(key, benchmark.validation_split, stages),
    )


def make_generator(seed: int, purpose: str, stage: int, epoch: int = 0) -> Generator:
    """Return the generator of a purpose, seeded by (seed, purpose, stage, epoch)."""
    digest = hashlib.sha256(f"{seed} {purpose} {stage} {epoch}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _halve_validation(
    key: TrialKey, split: Split, stages: tuple[Stage, ...]
) -> ValidationHalves | None:
    if split.group is None or not any(stage.splits_validation for stage in stages):
        return None
    generator = make_generator(key.seed, "halves", 0)
    halves = ValidationHalves(*split_validation(split.group, generator, duplicate_ids(split)))
    present = [set(split.group[rows].tolist()) for rows in halves]
    missing = sorted(present[0] ^ present[1])
    if missing:
        raise UserError(
            f"{key.dataset}: one half of the validation split would have no example of group "
            f"{', '.join(map(str, missing))}; expected at least 2 examples per group, with "
            "different texts"
        )
    return halves
