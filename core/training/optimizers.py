"""Optimizers and learning-rate schedules."""

from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau, StepLR

from core.weighting.base import Weighting
from datasets.training_config import TrainingConfig

PER_EPOCH_SCHEDULERS = (StepLR, ReduceLROnPlateau)  # classes of PER_EPOCH_SCHEDULES


class Decays(NamedTuple):
    """Rates of weight decay.

    Args:
        weights: Of parameters with several dimensions.
        vectors: Of biases and norms.
    """

    weights: float
    vectors: float


def choose_decays(config: TrainingConfig) -> Decays:
    """Return the weight decay of a model's parameters by their dimensions."""
    if config.decay_target == "vectors":
        return Decays(0.0, config.weight_decay)
    return Decays(config.weight_decay, 0.0)


def read_learning_rate(optimizer: Optimizer) -> float:
    """Return the current learning rate of a model's parameters."""
    lr: float = optimizer.param_groups[0]["lr"]
    return lr


def make_optimizer(model: nn.Module, weighting: Weighting, config: TrainingConfig) -> Optimizer:
    """Return the optimizer of a model's and its weighting's parameters.

    Weights are decayed; biases and norms (parameters with one dimension) and the weighting's
    parameters are not. With ``decay_target: vectors`` it is the other way round.

    Args:
        model: The model.
        weighting: The weighting.
        config: The training config: ``optimizer``, ``lr``, ``weight_decay``, ``decay_target``,
            ``momentum``.
    """
    decays = choose_decays(config)
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]
    learned = list(weighting.parameters())
    groups: list[dict[str, Any]] = []
    if matrices:
        groups.append({"params": matrices, "weight_decay": decays.weights})
    if vectors:
        groups.append({"params": vectors, "weight_decay": decays.vectors})
    if learned:
        own_lr = {} if weighting.lr is None else {"lr": weighting.lr}
        groups.append({"params": learned, "weight_decay": 0.0, **own_lr})
    if config.optimizer == "sgd":  # on a GPU faster than its fused form (docs/gpu.md)
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    # On a GPU, one kernel for many parameters reads and writes each number once.
    fused = True if all(p.is_cuda for p in (*trained, *learned)) else None
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.lr, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, fused=fused)


def make_schedule(
    optimizer: Optimizer, config: TrainingConfig, total_steps: int, higher_is_better: bool = False
) -> LRScheduler | None:
    """Return the schedule; None for a constant rate.

    ``step`` (half the rate every 100 epochs) and ``plateau`` (:class:`ReduceLROnPlateau` as in
    System 2's QM9) are stepped after every epoch, the others after every batch.

    Args:
        optimizer: The optimizer.
        config: The training config: ``schedule``, ``warmup`` and ``warmup_steps``.
        total_steps: The steps that the schedule spans.
        higher_is_better: Whether the metric that ``plateau`` follows is better where higher.
    """
    warmup = config.warmup_steps or round(config.warmup * total_steps)
    if config.schedule == "constant" and not warmup:
        return None
    name = config.schedule
    if name == "step":
        return StepLR(optimizer, step_size=100, gamma=0.5)
    if name == "plateau":
        mode: Literal["min", "max"] = "max" if higher_is_better else "min"
        return ReduceLROnPlateau(optimizer, mode, factor=0.7, patience=5, min_lr=1e-5)
    from transformers.optimization import get_scheduler  # costs a second to import

    if name == "constant":
        name = "constant_with_warmup"
    schedule: LRScheduler = get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=total_steps
    )
    return schedule
