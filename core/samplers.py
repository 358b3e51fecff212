"""Samplers: the examples of an epoch. Each returns the rows of one epoch, drawn at once.

System 1 and BalancingGroups (Idrissi et al., CLeaR 2022) name them ``erm``, ``rwy``, ``rwg``,
``suby`` and ``subg``.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from datasets.benchmark import Split

# (split, rows of the epoch, each as often as its sample count; generator of the epoch; generator of
# the whole stage) -> rows of the epoch in order.
Sampler = Callable[[Split, Tensor, Generator, Generator], Tensor]


def uniform(split: Split, rows: Tensor, epoch: Generator, run: Generator) -> Tensor:
    """Return every row once, in random order."""
    return _shuffle_rows(rows, epoch)


def class_balanced(split: Split, rows: Tensor, epoch: Generator, run: Generator) -> Tensor:
    """Return as many rows as there are, drawn with replacement, classes equally often."""
    return _draw_balanced(split.y, rows, epoch)


def group_balanced(split: Split, rows: Tensor, epoch: Generator, run: Generator) -> Tensor:
    """Return as many rows as there are, drawn with replacement, groups equally often."""
    return _draw_balanced(_get_groups(split), rows, epoch)


def subsampled_classes(split: Split, rows: Tensor, epoch: Generator, run: Generator) -> Tensor:
    """Return a random subset, the same in every epoch, in which classes have equal sizes."""
    return _shuffle_rows(_select_balanced_subset(split.y, rows, run), epoch)


def subsampled_groups(split: Split, rows: Tensor, epoch: Generator, run: Generator) -> Tensor:
    """Return a random subset, the same in every epoch, in which groups have equal sizes."""
    return _shuffle_rows(_select_balanced_subset(_get_groups(split), rows, run), epoch)


SAMPLERS: dict[str, Sampler] = {
    function.__name__: function
    for function in (uniform, class_balanced, group_balanced, subsampled_classes, subsampled_groups)
}
# Properties that a benchmark must provide, by sampler.
SAMPLER_NEEDS: dict[str, frozenset[str]] = {
    "uniform": frozenset(),
    "class_balanced": frozenset({"classification"}),
    "subsampled_classes": frozenset({"classification"}),
    "group_balanced": frozenset({"train_groups"}),
    "subsampled_groups": frozenset({"train_groups"}),
}


def _get_groups(split: Split) -> Tensor:
    assert split.group is not None  # methods with these samplers need train_groups
    return split.group


def _shuffle_rows(rows: Tensor, generator: Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)]


def _draw_balanced(label: Tensor, rows: Tensor, generator: Generator) -> Tensor:
    label = label[rows]
    weights = 1.0 / label.bincount().double()[label]
    return rows[torch.multinomial(weights, len(rows), replacement=True, generator=generator)]


def _select_balanced_subset(label: Tensor, rows: Tensor, generator: Generator) -> Tensor:
    rows = _shuffle_rows(rows, generator)
    label = label[rows]
    counts = label.bincount()
    smallest = int(counts[counts > 0].min())
    # Rank of each row within its label: position in the stably sorted order less label's start.
    order = torch.argsort(label, stable=True)
    rank = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[label[order]]
    return rows[order[rank < smallest]]
