"""What every stage is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn

from core.objectives.base import Objective


class Features(NamedTuple):
    """What a last layer sees of some examples.

    Args:
        inputs: Its inputs, ``(n, d)`` float32.
        y: Labels, ``(n,)``.
        group: Groups, ``(n,)``.
    """

    inputs: Tensor
    y: Tensor
    group: Tensor


class Fitting(Protocol):
    """What a stage that fits a layer by itself is given."""

    layer: nn.Linear
    generator: Generator

    def features(self) -> Features:
        """Return the features of the validation examples that do not select."""
        ...


@dataclass
class Stage:
    """Epochs of training.

    Args:
        epochs: Epochs; None takes the training config's.
    """

    eligible: ClassVar[bool] = True  # whether selection may choose an epoch of this stage
    reinitialize: ClassVar[bool] = True  # whether it begins with new weights
    one_model_per_task: ClassVar[bool] = False  # whether each task has a model of its own
    splits_validation: ClassVar[bool] = False  # whether half of validation trains, half selects

    epochs: int | None = None

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: If one makes no sense.
        """
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"a stage of {self.epochs} epochs; expected at least 1")

    def uses(self, objective: Objective) -> bool:
        """Return whether the stage descends an objective of the recipe."""
        return True

    def compute_sample_counts(self, correct: Callable[[], Tensor]) -> Tensor | None:
        """Return how often later stages repeat each training example, ``(n,)`` int64.

        Called when the stage's last epoch is done.

        Args:
            correct: Computes whether the model is right on each training example, ``(n,)`` bool.

        Returns:
            The counts, or None to leave them as they are.
        """
        return None

    def fit(self, fitting: Fitting) -> bool:
        """Do the epoch's work without gradient steps; return whether it did."""
        return False


def split_validation(
    group: Tensor, generator: Generator, same: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return two halves of the examples, each with half of every group, as rows ascending.

    Args:
        group: Groups, ``(n,)`` int64.
        generator: Draws who is in which.
        same: Numbers that are equal where examples are the same text, ``(n,)``, such as a comment
            that stands once per identity it mentions: these stay together. Then every group is
            halved as nearly as that allows: texts of several rows first, then rare groups.
    """
    order = torch.randperm(len(group), generator=generator)
    order = order[torch.argsort(group[order], stable=True)]
    first = torch.zeros(len(group), dtype=torch.bool)
    if same is None or len(same.unique()) == len(same):
        first[order[::2]] = True
    else:
        copies = same.unique(return_inverse=True, return_counts=True)
        order = order[torch.argsort(group.bincount()[group[order]], stable=True)]
        order = order[torch.argsort(-copies[2][copies[1]][order], stable=True)]
        first = _together(group, order, same)
    return first.nonzero().flatten(), (~first).nonzero().flatten()


def _together(group: Tensor, order: Tensor, same: Tensor) -> Tensor:
    """Return which examples are in the first half, ``(n,)`` bool, where the same stay together."""
    number = same.unique(return_inverse=True)[1].tolist()
    members: dict[int, list[int]] = {}
    for row, text in enumerate(number):
        members.setdefault(text, []).append(row)
    groups = group.tolist()
    excess = dict.fromkeys(groups, 0)  # by how many the first half has more of each group
    first = torch.zeros(len(group), dtype=torch.bool)
    for row in order.tolist():
        rows = members.pop(number[row], [])  # none if an earlier row took them along
        balance = (excess[groups[row]], sum(excess[groups[other]] for other in rows))
        chosen = balance <= (0, 0)
        for other in rows:
            excess[groups[other]] += 1 if chosen else -1
        first[rows] = chosen
    return first
