"""Sparsity of the representation."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from core.objectives.base import Losses, Objective, Step
from datasets.benchmark import Benchmark


@dataclass
class L1(Objective):
    """Mean absolute value of the last hidden representation, ``|H|_1 / numel(H)``.

    Where other objectives encode examples of their own, theirs is added (System 1's
    ``|H_erm|_1 / n + |H_mt|_1 / m``). Kulkarni et al., Multitask Learning Can Improve Worst-Group
    Outcomes, TMLR 2024. The published code divides by the size of the first batch it sees, for
    ever; here each batch is divided by its own size, so that a short last batch weighs like the
    others.
    """

    last: ClassVar[bool] = True
    splits: ClassVar[bool] = True

    def names(self, benchmark: Benchmark) -> list[str]:
        """Return ``["l1"]``."""
        return ["l1"]

    def losses(self, step: Step) -> Losses:
        """Return the sum over forward passes of the mean absolute value, ``(1,)``."""
        value = torch.stack([hidden.abs().mean() for hidden in step.hidden]).sum()
        return Losses(value[None], torch.full_like(value, step.batch.size)[None])
