"""Sparsity of the representation."""

from dataclasses import dataclass

import torch

from core.batch import Batch, Output
from core.objectives.base import Losses, Objective
from datasets.benchmark import Benchmark


@dataclass
class L1(Objective):
    """Mean absolute value of the last hidden representation, ``|H|_1 / numel(H)``.

    Kulkarni et al., Multitask Learning Can Improve Worst-Group Outcomes, TMLR 2024. The
    published code divides by the size of the first batch it sees, for ever; here each batch is
    divided by its own size, so that a short last batch weighs like the others.
    """

    def names(self, benchmark: Benchmark) -> list[str]:
        """Return ``["l1"]``."""
        return ["l1"]

    def losses(self, batch: Batch, output: Output) -> Losses:
        """Return the mean absolute value, ``(1,)``."""
        value = output.representation.abs().mean()
        return Losses(value[None], torch.full_like(value, len(batch.y))[None])
