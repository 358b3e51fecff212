"""Optimisers and learning-rate schedules."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from core.weighting.base import Weighting


def optimiser(model: nn.Module, weighting: Weighting, settings: Mapping[str, Any]) -> Optimizer:
    """Return the optimiser of a model and of what its weighting learns.

    Weights are decayed; biases and norms (parameters with one dimension) and the weighting's
    parameters are not.

    Args:
        model: The model.
        weighting: The weighting.
        settings: The protocol: ``optimizer``, ``lr``, ``weight_decay``, ``momentum``.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decay = settings["weight_decay"]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        {"params": list(weighting.parameters()), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=settings["lr"], momentum=settings["momentum"])
    return torch.optim.AdamW(groups, lr=settings["lr"])


def schedule(
    optimizer: Optimizer, settings: Mapping[str, Any], total_steps: int
) -> LRScheduler | None:
    """Return the schedule, stepped after every batch; None for a constant rate.

    Args:
        optimizer: The optimiser.
        settings: The protocol: ``schedule`` and ``warmup``.
        total_steps: The steps of the stage.
    """
    if settings["schedule"] == "constant" and not settings["warmup"]:
        return None
    from transformers.optimization import get_scheduler  # costs a second to import

    name = settings["schedule"]
    if name == "constant":
        name = "constant_with_warmup"
    warmup = round(settings["warmup"] * total_steps)
    # get_scheduler is unannotated
    return cast(
        LRScheduler,
        get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total_steps),
    )
