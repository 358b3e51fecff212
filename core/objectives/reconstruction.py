"""Reconstruction of what is hidden: masked image modelling, masked language modelling."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from core.batch import Batch
from core.image_ops import patch_masks, uniform
from core.models.base import Model
from core.models.bert import Bert
from core.models.vit import ViT
from core.objectives.auxiliary import Auxiliary
from core.objectives.views import masking_view
from datasets.storage.ragged_arrays import TextBatch

BLOCK, HIDDEN = 2, 0.6  # patches along a block's side; the share of blocks that is hidden
MASKED = 0.15  # share of tokens
REPLACED, KEPT = 0.8, 0.9  # 80% become the mask token, 10% stay, 10% become a random word


class Reconstruction(Auxiliary):
    """The auxiliary task nearest to pretraining, on training examples of its own.

    Images: the mean absolute error of the pixels of hidden patches, 60% of blocks of 2x2 patches
    (32 pixels for patches of 16) at random (Xie et al., SimMIM, CVPR 2022). Texts: the mean
    cross-entropy of 15% of the tokens (Devlin et al., BERT, NAACL 2019), of which there is at
    least one per batch. As in Kulkarni et al., Multitask Learning Can Improve Worst-Group
    Outcomes, TMLR 2024.
    """

    parts: ClassVar[frozenset[str]] = frozenset({"reconstruction"})
    name: ClassVar[str] = "reconstruction"

    def loss(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss of what is hidden in a batch, and the hidden states."""
        if isinstance(batch.inputs, TextBatch):
            return masked_tokens(model, batch.inputs)
        return masked_pixels(model, masking_view(batch.inputs, model.image))


def masked_pixels(model: Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of masked image modelling and the hidden states.

    Args:
        model: A :class:`~core.models.vit.ViT` with decoder.
        images: Normalised, ``(b, c, h, w)``.
    """
    assert isinstance(model, ViT)
    masked = patch_masks(len(images), model.grid, BLOCK, HIDDEN, images.device)
    hidden = model.encode(images, masked=masked)
    pixels = model.reconstruct(hidden)
    side = model.grid * model.patch
    where = masked.view(-1, 1, model.grid, model.grid).repeat_interleave(model.patch, 2)
    where = where.repeat_interleave(model.patch, 3)
    errors = (pixels - images[..., :side, :side]).abs() * where
    return errors.sum() / (where.sum() * images.shape[1]), hidden


def masked_tokens(model: Model, texts: TextBatch) -> tuple[Tensor, Tensor]:
    """Return the loss of masked language modelling and the hidden states.

    Args:
        model: A :class:`~core.models.bert.Bert` with token head.
        texts: The texts.
    """
    assert isinstance(model, Bert)
    ids = texts.ids
    place, action, word = uniform(3, *ids.shape, device=ids.device)
    eligible = texts.attention
    for token in model.special_ids:
        eligible = eligible & (ids != token)
    place = place.masked_fill(~eligible, 2.0)
    chosen = eligible & (place <= place.min().clamp(min=MASKED))
    replaced = torch.where(chosen & (action < REPLACED), model.mask_token_id, ids)
    words = (word * model.vocabulary_size).long()
    replaced = torch.where(chosen & (action >= KEPT), words, replaced)
    hidden = model.encode(texts._replace(ids=replaced))
    # So many lowest places hold all chosen ones, but for one batch in a billion; a number that the
    # host knows spares a wait for the device, and logits for all tokens.
    bound = math.ceil(MASKED * ids.numel() + 6 * math.sqrt(ids.numel() * MASKED * (1 - MASKED)))
    rows = place.flatten().topk(min(bound, ids.numel()), largest=False).indices
    logits = model.reconstruct(hidden.flatten(0, 1).index_select(0, rows))
    labels = torch.where(chosen, ids, -1).flatten()[rows]
    return mean_cross_entropy(logits, labels), hidden


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over labels other than -1, ``(n,)``, 0 if there is none; ``(n, words)``."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    total = cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    return total / (labels != -1).sum().clamp(min=1)
