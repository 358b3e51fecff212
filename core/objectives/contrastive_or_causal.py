"""An auxiliary task unlike pretraining: contrasting images, predicting the next token."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from core.batch import Batch
from core.models.base import Encoder, Model
from core.models.bert import Bert
from core.objectives.auxiliary import Auxiliary
from core.objectives.reconstruction import mean_cross_entropy
from core.objectives.views import contrastive_view
from datasets.storage.ragged_arrays import TextBatch

TEMPERATURE = 1.0


class ContrastiveOrCausal(Auxiliary):
    """SimCLR on images, causal language modelling on texts, on training examples of its own.

    Images: the normalised temperature-scaled cross-entropy of two random views of each image (Chen
    et al., A Simple Framework for Contrastive Learning, ICML 2020) at temperature 1. Texts: the
    mean cross-entropy of each token given those before it. As Kulkarni et al., Multitask Learning
    Can Improve Worst-Group Outcomes, TMLR 2024, describe; their code contrasts unrelated images
    and lets tokens see those after them.
    """

    parts: ClassVar[frozenset[str]] = frozenset({"projection"})
    name: ClassVar[str] = "auxiliary"

    def loss(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch, and the hidden states."""
        if isinstance(batch.inputs, TextBatch):
            return next_token(model, batch.inputs)
        views = [contrastive_view(batch.inputs, model.image) for _ in range(2)]
        return contrast(model, torch.cat(views))


def contrast(model: Model, views: Tensor) -> tuple[Tensor, Tensor]:
    """Return the contrastive loss and the hidden states.

    Args:
        model: An encoder of images with projection.
        views: The first views of all images, then the second ones, ``(2 b, c, h, w)``.
    """
    assert isinstance(model, Encoder)
    hidden = model.encode(views)
    return nt_xent(model.project(hidden[:, 0]), TEMPERATURE), hidden


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """Return SimCLR's loss: the other view of the same image is the right one among all others.

    Args:
        projections: Of the first views of all images, then of the second ones, ``(2 b, width)``.
        temperature: By which cosines are divided.
    """
    with torch.autocast(projections.device.type, enabled=False):
        if projections.dtype != torch.float64:
            projections = projections.float()
        z = normalize(projections, dim=1)
        cosines = z @ z.T / temperature
    cosines = cosines.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return cross_entropy(cosines, torch.arange(len(z), device=z.device).roll(len(z) // 2))


def next_token(model: Model, texts: TextBatch) -> tuple[Tensor, Tensor]:
    """Return the loss of causal language modelling, without padding, and the hidden states.

    Args:
        model: A :class:`~core.models.bert.Bert` with token head.
        texts: The texts.
    """
    assert isinstance(model, Bert)
    hidden = model.encode(texts, causal=True)
    logits = model.reconstruct(hidden[:, :-1]).flatten(0, 1)
    labels = torch.where(texts.attention, texts.ids, -1)[:, 1:].flatten()
    return mean_cross_entropy(logits, labels), hidden
