"""The interface of stages, and the split of the validation set for refitting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn

from core.objectives.base import Objective


class LastLayerFeatures(NamedTuple):
    """The inputs and labels on which a last layer is refitted.

    Args:
        inputs: The layer's inputs, ``(n, d)`` float32.
        y: Labels, ``(n,)``.
        group: Groups, ``(n,)``.
    """

    inputs: Tensor
    y: Tensor
    group: Tensor


class RefitContext(Protocol):
    """The layer that a stage refits without gradient steps, and its inputs."""

    layer: nn.Linear
    generator: Generator

    def compute_features(self) -> LastLayerFeatures:
        """Return the layer's inputs on the refitting half of the validation split."""
        ...


@dataclass
class Stage:
    """Consecutive epochs of training with one set of objectives.

    Args:
        epochs: The number of epochs; None for the training config's.
    """

    needs: ClassVar[frozenset[str]] = frozenset()  # properties that a benchmark must provide
    eligible: ClassVar[bool] = True  # whether selection may choose an epoch of this stage
    reinitialize: ClassVar[bool] = True  # whether it starts from new weights
    one_model_per_task: ClassVar[bool] = False  # whether each task has a model of its own
    splits_validation: ClassVar[bool] = False  # whether it refits on half of validation
    passes_after: ClassVar[int] = 0  # passes after its epochs that System 1 counts as epochs

    epochs: int | None = None

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: If one is out of range.
        """
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs: received {self.epochs}, expected at least 1")

    def uses_objective(self, objective: Objective) -> bool:
        """Return whether the stage minimizes an objective of the recipe."""
        return True

    def compute_sample_counts(self, correct: Callable[[], Tensor]) -> Tensor | None:
        """Return how often an epoch of later stages has each example, ``(n,)`` int64.

        Called after the stage's last epoch.

        Args:
            correct: Computes whether each training example is classified correctly, ``(n,)`` bool.

        Returns:
            The counts; None to keep them.
        """
        return None

    def refit_layer(self, context: RefitContext) -> bool:
        """Refit a layer in place of gradient steps; return whether the stage did."""
        return False


def count_stage_epochs(stages: Sequence[Stage], epochs: int, cover: str) -> list[int]:
    """Return the epochs of each stage.

    Args:
        stages: The stages.
        epochs: The training config's epochs.
        cover: The training config's ``epochs_cover``.

    Raises:
        ValueError: If ``epochs`` cover all stages, and are too few for them.
    """
    if cover == "run":
        used = sum((stage.epochs or 0) + stage.passes_after for stage in stages)
        if epochs <= used and any(stage.epochs is None for stage in stages):
            raise ValueError(
                f"epochs: received {epochs}, expected more than {used}, which the other stages "
                "take; with epochs_cover=run, epochs are those of all stages"
            )
        epochs -= used
    return [epochs if stage.epochs is None else stage.epochs for stage in stages]


def split_validation(
    group: Tensor, generator: Generator, same: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Split examples into two halves of equal group sizes, as ascending rows.

    Args:
        group: Groups, ``(n,)`` int64.
        generator: Draws the half of each example.
        same: Ids that are equal for copies of a text, ``(n,)``, such as a comment that is listed
            once per identity it mentions. Copies are kept in one half, so groups are halved as
            evenly as that permits: texts of several rows first, then rare groups.
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
        first = _split_whole_texts(group, order, same)
    return first.nonzero().flatten(), (~first).nonzero().flatten()


def _split_whole_texts(group: Tensor, order: Tensor, same: Tensor) -> Tensor:
    """Return a mask of the first half, ``(n,)`` bool, with all copies of a text in one half."""
    number = same.unique(return_inverse=True)[1].tolist()
    members: dict[int, list[int]] = {}
    for row, text in enumerate(number):
        members.setdefault(text, []).append(row)
    groups = group.tolist()
    # Examples of each group in the first half minus those in the second.
    excess = dict.fromkeys(groups, 0)
    first = torch.zeros(len(group), dtype=torch.bool)
    for row in order.tolist():
        rows = members.pop(number[row], [])  # empty if an earlier copy has placed them
        balance = (excess[groups[row]], sum(excess[groups[other]] for other in rows))
        chosen = balance <= (0, 0)
        for other in rows:
            excess[groups[other]] += 1 if chosen else -1
        first[rows] = chosen
    return first
