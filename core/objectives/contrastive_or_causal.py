"""Auxiliary objectives unlike pretraining: contrastive learning, causal language modeling."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from core.batch import Batch
from core.models.base import Encoder, Model
from core.models.bert import Bert
from core.objectives.auxiliary import Auxiliary
from core.objectives.reconstruction import compute_mean_cross_entropy
from core.objectives.views import describe_contrastive_view, make_contrastive_view
from datasets.storage.ragged_arrays import TextBatch

TEMPERATURE = 1.0


class ContrastiveOrCausal(Auxiliary):
    """SimCLR on images, causal language modeling on texts, on training examples of its own.

    Images: the normalized temperature-scaled cross-entropy of two random views of each image (Chen
    et al., A Simple Framework for Contrastive Learning, ICML 2020) at temperature 1. Texts: the
    mean cross-entropy of each token given those before it. As described by Kulkarni et al.,
    Multitask Learning Can Improve Worst-Group Outcomes, TMLR 2024; their code contrasts unrelated
    images.
    """

    model_parts: ClassVar[frozenset[str]] = frozenset({"projection"})
    name: ClassVar[str] = "auxiliary"
    loss_names: ClassVar[str] = name

    def describe_draws(self, modality: str, size: int | None) -> dict[str, object]:
        """Return whether tokens see earlier ones only, or what is drawn for each view."""
        if modality == "text":
            return {"causal": True}
        return {**describe_contrastive_view(size), "temperature": TEMPERATURE}

    def compute_loss(
        self, model: Model, batch: Batch, random: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of a batch; return it and the hidden states."""
        if isinstance(batch.inputs, TextBatch):
            return compute_causal_loss(model, batch.inputs)
        views = [make_contrastive_view(batch.inputs, model.image) for _ in range(2)]
        return compute_contrastive_loss(model, torch.cat(views))


def compute_contrastive_loss(model: Model, views: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the contrastive loss; return it and the hidden states.

    Args:
        model: An encoder of images with projection.
        views: The first views of all images, then the second ones, ``(2 b, c, h, w)``.
    """
    assert isinstance(model, Encoder)
    hidden = model.encode(views)
    return nt_xent(model.project(hidden[:, 0]), TEMPERATURE), hidden


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """Compute SimCLR's loss: identify the other view of an image among all other views.

    Args:
        projections: Of the first views of all images, then of the second ones, ``(2 b, width)``.
        temperature: The divisor of the cosines.
    """
    with torch.autocast(projections.device.type, enabled=False):
        if projections.dtype != torch.float64:
            projections = projections.float()
        z = normalize(projections, dim=1)
        cosines = z @ z.T / temperature
    cosines = cosines.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return cross_entropy(cosines, torch.arange(len(z), device=z.device).roll(len(z) // 2))


def compute_causal_loss(model: Model, texts: TextBatch) -> tuple[Tensor, Tensor]:
    """Compute the causal language modeling loss; return it and the hidden states.

    Args:
        model: A :class:`~core.models.bert.Bert` with token head.
        texts: The texts.
    """
    assert isinstance(model, Bert)
    hidden = model.encode(texts, causal=True)
    logits = model.reconstruct(hidden[:, :-1]).flatten(0, 1)
    labels = torch.where(texts.attention_mask, texts.ids, -1)[:, 1:].flatten()
    return compute_mean_cross_entropy(logits, labels), hidden
