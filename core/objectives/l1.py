"""Sparsity of the representation."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from core.objectives.base import Losses, Objective, Step
from datasets.benchmark import Benchmark


@dataclass
class L1(Objective):
    """Mean absolute value of the last hidden representation, ``|H|_1 / numel(H)``.

    The norms of all forward passes of a step are added, those of auxiliary objectives too
    (``|H_erm|_1 / n + |H_mt|_1 / m``). Kulkarni et al., Multitask Learning Can Improve Worst-Group
    Outcomes, TMLR 2024. The published code divides every batch by the size of the first; here each
    batch is divided by its own size, so that a short last batch has the same weight as the others.
    """

    is_computed_last: ClassVar[bool] = True
    is_example_mean: ClassVar[bool] = True

    def name_losses(self, benchmark: Benchmark) -> list[str]:
        """Return ``["l1"]``."""
        return ["l1"]

    def compute_losses(self, step: Step) -> Losses:
        """Compute the sum over forward passes of the mean absolute value, ``(1,)``."""
        value = torch.stack([hidden.abs().mean() for hidden in step.hidden]).sum()
        return Losses(value[None], torch.full_like(value, step.batch.size)[None])
