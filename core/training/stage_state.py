"""The model of a stage and the objects that train it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau, StepLR

from common.errors import UserError
from core import models
from core.environment import Environment
from core.models.base import Model
from core.models.pretrained.tokenizer import find_tokenizer_mismatch
from core.models.single_tasks import SingleTasks
from core.recipe.component import make_weighting
from core.samplers import SAMPLERS
from core.stages.base import Stage
from core.step_graphs import StepGraphs
from core.training.context import EpochPosition, RunContext
from core.training.evaluation import needs_two_examples
from core.training.loader import count_batches
from core.training.optimizers import (
    PER_EPOCH_SCHEDULERS,
    make_optimizer,
    make_schedule,
    read_learning_rate,
)
from core.weighting import LossWeighting, Weighting
from datasets.multitask.base import TaskBenchmark
from datasets.training_config import TrainingConfig


@dataclass(frozen=True)
class StageState:
    """The objects that the epochs of a stage train.

    Args:
        model: The model.
        weighting: The weighting of the losses.
        optimizer: The optimizer of the model's and the weighting's parameters.
        schedule: The learning-rate schedule; None for a constant rate.
        steps_per_epoch: Optimization steps of an epoch.
        joins_single: Whether a last batch of one example joins the batch before, because the model
            cannot train on one example.
        graphs: The graphs of the steps' kernels, for GPUs.
    """

    model: Model
    weighting: Weighting
    optimizer: Optimizer
    schedule: LRScheduler | None
    steps_per_epoch: int
    joins_single: bool
    graphs: StepGraphs

    @property
    def lr(self) -> float:
        """The current learning rate."""
        return read_learning_rate(self.optimizer)

    def step_batch_schedule(self) -> None:
        """Step a schedule that is stepped after every batch."""
        if self.schedule is not None and not isinstance(self.schedule, PER_EPOCH_SCHEDULERS):
            self.schedule.step()

    def step_epoch_schedule(self, validation: Mapping[str, Any], metric: str) -> None:
        """Step a schedule that is stepped after every epoch.

        Args:
            validation: The epoch's validation metrics.
            metric: The name of the metric that ``plateau`` follows.
        """
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(validation[metric])
        elif isinstance(self.schedule, StepLR):
            self.schedule.step()

    def load_state_dicts(
        self,
        model: Mapping[str, Any],
        weighting: Mapping[str, Any],
        optimizer: dict[str, Any],
        schedule: dict[str, Any] | None,
    ) -> None:
        """Restore the state of each object."""
        self.model.load_state_dict(model)
        self.weighting.load_state_dict(weighting)
        self.optimizer.load_state_dict(optimizer)
        if self.schedule is not None and schedule is not None:
            self.schedule.load_state_dict(schedule)


def begin_stage(
    context: RunContext, index: int, sample_counts: Tensor, model: Model | None
) -> StageState:
    """Return the state at the beginning of a stage.

    Args:
        context: The run.
        index: Number of the stage, from 0.
        sample_counts: How often an epoch has each training example, ``(n,)`` int64.
        model: The model of the stage before, which is kept unless the stage reinitializes it;
            None for the first stage.

    Raises:
        UserError: If the model cannot train on batches of this size.
    """
    stage, config = context.stages[index], context.config
    torch.manual_seed(context.make_generator("model", index).initial_seed())
    if index == 0 or model is None or stage.reinitialize:
        model = _make_model(context, stage).to(context.device)
    weighting = make_weighting(context.key.recipe.weighting)
    weighting.setup(context.losses.covered)
    weighting.to(context.device)
    if prefers_channels_last(context.environment, model, weighting):
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, weighting, config)
    examples = len(draw_rows(context, sample_counts, EpochPosition(index, 0)))
    joins_single = _joins_single(context, model, examples)
    steps_per_epoch = count_batches(examples, config.batch_size, joins_single)
    once = draw_rows(context, torch.ones_like(sample_counts), EpochPosition(index, 0))
    total_steps = count_schedule_steps(
        config, steps_per_epoch, context.stage_epochs[index], len(once)
    )
    schedule = make_schedule(
        optimizer,
        config,
        total_steps,
        context.benchmark.higher_is_better[plateau_metric(context)],
    )
    graphs = StepGraphs(optimizer, weighting)
    return StageState(model, weighting, optimizer, schedule, steps_per_epoch, joins_single, graphs)


def prefers_channels_last(environment: Environment, model: Model, weighting: Weighting) -> bool:
    """Return whether the weights of convolutions are laid out channels-last.

    Not for Gram weightings, whose gradients are laid out by rows.
    """
    return (
        environment.device == "cuda"
        and environment.precision == "bfloat16"
        and model.prefers_channels_last
        and isinstance(weighting, LossWeighting)
    )


def count_schedule_steps(
    config: TrainingConfig, steps_per_epoch: int, epochs: int, examples: int
) -> int:
    """Return the steps that a stage's schedule spans.

    Args:
        config: The training config.
        steps_per_epoch: The steps of the stage's epochs.
        epochs: The stage's epochs.
        examples: The examples of an epoch without repeated ones.
    """
    if config.epochs_cover == "run":  # of all training examples once
        return math.ceil(examples / config.batch_size) * config.epochs
    return steps_per_epoch * epochs


def count_stage_steps(context: RunContext, model: Model) -> tuple[int, ...]:
    """Return the optimization steps of an epoch of each stage, with each example once.

    Args:
        context: The run.
        model: A model of the run.
    """
    once = torch.ones(len(context.train), dtype=torch.int64)
    found = []
    for index, stage in enumerate(context.stages):
        examples = len(draw_rows(context, once, EpochPosition(index, 0)))
        joins_single = _joins_single(context, model, examples)
        steps = count_batches(examples, context.config.batch_size, joins_single)
        found.append(0 if stage.splits_validation else steps)
    return tuple(found)


def _joins_single(context: RunContext, model: Model, examples: int) -> bool:
    """Return whether an epoch would end with one example, on which the model cannot train."""
    size = context.config.batch_size
    if (size > 1 and examples % size != 1) or not needs_two_examples(context, model):
        return False
    if size == 1 or examples == 1:
        raise UserError(
            f"batch_size: received {size} with {examples:,} training examples, but model "
            f"'{context.config.model}' has batch normalization, which needs at least 2 examples "
            "per step"
        )
    return True


def plateau_metric(context: RunContext) -> str:
    """Return the metric that the schedule ``plateau`` follows: the default selection metric."""
    return context.benchmark.reported_metrics[0]


def draw_rows(context: RunContext, sample_counts: Tensor, position: EpochPosition) -> Tensor:
    """Return the training rows of an epoch in order, ``(examples,)`` int64.

    Args:
        context: The run.
        sample_counts: How often an epoch has each training example, ``(n,)`` int64.
        position: The epoch.
    """
    rows = torch.repeat_interleave(torch.arange(len(sample_counts)), sample_counts)
    draw = SAMPLERS[context.key.recipe.sampler]
    epoch_generator = context.make_generator("sampler", *position)
    return draw(
        context.train, rows, epoch_generator, context.make_generator("subset", position.stage)
    )


def _make_model(context: RunContext, stage: Stage) -> Model:
    benchmark, config = context.benchmark, context.config
    problem = find_tokenizer_mismatch(config.model, benchmark)
    if problem:
        raise UserError(problem)
    make = partial(
        models.build_model,
        config.model,
        parts=frozenset(part for objective in context.objectives for part in objective.model_parts),
        checkpointing=config.checkpointing,
        compiled=config.compile,
        from_scratch=config.from_scratch,
    )
    if stage.one_model_per_task:
        assert isinstance(benchmark, TaskBenchmark)  # such methods need tasks
        return SingleTasks(benchmark, lambda outputs: make(outputs=outputs))
    return make(outputs=benchmark.output_sizes)
