"""Sparsity of the representation."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from core.objectives.base import Losses, Objective, Representation, Step
from datasets.benchmark import Benchmark


@dataclass
class L1(Objective):
    """Mean absolute value of the last hidden representation.

    Images: ``|H|_1 / numel(H)``. Texts: the mean over each text's tokens, then over texts, so that
    a text's penalty does not depend on the padding, and so on its company. Kulkarni et al.,
    Multitask Learning Can Improve Worst-Group Outcomes, TMLR 2024, average over 220 or 128 padded
    positions instead, where a token weighs as much less as texts are shorter than that. The mean
    over tokens is multiplied by the mean length of training texts as a share of these positions
    (``token_share`` of the benchmark), so that published weights press on the mean token as they
    did. With the training config's ``pad_to`` it is the published mean over all positions.

    The norms of all forward passes of a step are added, those of auxiliary objectives too
    (``|H_erm|_1 / n + |H_mt|_1 / m``). The published code divides every batch by the size of the
    first; here each batch is divided by its own size, so that a short last batch has the same
    weight as the others.
    """

    loss_names: ClassVar[str] = "l1"
    is_computed_last: ClassVar[bool] = True
    is_example_mean: ClassVar[bool] = True
    has_fixed_kernels: ClassVar[bool] = True

    def name_losses(self, benchmark: Benchmark) -> list[str]:
        """Return ``["l1"]``."""
        return ["l1"]

    def compute_losses(self, step: Step) -> Losses:
        """Compute the sum over forward passes of the mean absolute value, ``(1,)``."""
        value = torch.stack([_compute_mean(hidden, step) for hidden in step.hidden]).sum()
        return Losses(value[None], torch.full_like(value, step.batch.size)[None])


def _compute_mean(hidden: Tensor | Representation, step: Step) -> Tensor:
    """Return the mean absolute value of a pass, ``()``, by its share."""
    if isinstance(hidden, Tensor):
        hidden = Representation(hidden)
    magnitudes = hidden.states.abs()
    if hidden.tokens is None or step.is_padded:
        mean = magnitudes.mean()
    else:
        of_tokens = magnitudes.float().mean(dim=2) * hidden.tokens
        of_texts = of_tokens.sum(dim=1) / hidden.tokens.sum(dim=1).clamp(min=1)
        mean = of_texts.mean() * step.token_share
    return mean if hidden.share == 1 else mean * hidden.share
