"""Reconstruction of masked inputs: masked image modeling, masked language modeling."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from core.batch import Batch
from core.image_ops import draw_patch_masks, draw_uniform
from core.models.base import Model
from core.models.bert import Bert
from core.models.image_encoder import ImageEncoder
from core.models.text_encoder import TextEncoder
from core.models.vit import ViT
from core.objectives.auxiliary import Auxiliary
from core.objectives.base import DrawnExamples
from core.objectives.views import describe_masking_view, make_masking_view
from datasets.storage.ragged_arrays import TextBatch

BLOCK_PATCHES = 2  # along each side of a block
HIDDEN_SHARE = 0.6  # of blocks
PREDICTED_SHARE = 0.15  # of tokens
# 80% of these become the mask token, 10% stay, 10% become a random token.
MASKED_BELOW, RANDOM_FROM = 0.8, 0.9


class Reconstruction(Auxiliary):
    """The auxiliary objective closest to pretraining, on training examples of its own.

    Images: the mean absolute error of the pixels of masked patches, 60% of blocks of 2x2 patches
    (32 pixels for patches of 16) at random (Xie et al., SimMIM, CVPR 2022). Texts: the mean
    cross-entropy of 15% of the tokens (Devlin et al., BERT, NAACL 2019), at least one per batch.
    As in Kulkarni et al., Multitask Learning Can Improve Worst-Group Outcomes, TMLR 2024.
    """

    model_parts: ClassVar[frozenset[str]] = frozenset({"reconstruction"})
    name: ClassVar[str] = "reconstruction"
    loss_names: ClassVar[str] = name
    has_fixed_kernels: ClassVar[bool] = True

    def describe_draws(self, modality: str, size: int | None) -> dict[str, object]:
        """Return the shares of masked tokens, or the crop and the share of masked blocks."""
        if modality == "text":
            return {
                "predicted_tokens": PREDICTED_SHARE,
                "become_the_mask_token": MASKED_BELOW,
                "become_random_tokens": round(1 - RANDOM_FROM, 9),
            }
        return {
            **describe_masking_view(),
            "masked_blocks": HIDDEN_SHARE,
            "block_patches": BLOCK_PATCHES,
        }

    def prepare_batch(self, model: Model, batch: Batch) -> DrawnExamples:
        """Return texts with their random numbers, or views of images with their masks."""
        if isinstance(batch.inputs, TextBatch):
            return DrawnExamples(batch, draw_token_numbers(batch.inputs))
        view = make_masking_view(batch.inputs, model.image)
        return DrawnExamples(batch._replace(inputs=view), draw_image_masks(model, view))

    def compute_loss(
        self, model: Model, batch: Batch, random: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of the masked inputs; return it and the hidden states."""
        if random is None:
            batch, random = self.prepare_batch(model, batch)
        if isinstance(batch.inputs, TextBatch):
            return compute_masked_language_loss(model, batch.inputs, random)
        return compute_masked_image_loss(model, batch.inputs, random)


def draw_image_masks(model: Model, images: Tensor) -> Tensor:
    """Draw which patches of images are masked, ``(b, patches)`` bool."""
    assert isinstance(model, ViT | ImageEncoder)
    return draw_patch_masks(len(images), model.grid, BLOCK_PATCHES, HIDDEN_SHARE, images.device)


def draw_token_numbers(texts: TextBatch) -> Tensor:
    """Draw three numbers for each token: its rank, its action, its replacement, ``(3, b, L)``."""
    return draw_uniform(3, *texts.ids.shape, device=texts.ids.device)


def compute_masked_image_loss(
    model: Model, images: Tensor, masked: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the masked image modeling loss; return it and the hidden states.

    Args:
        model: An encoder of images with decoder.
        images: Normalized, ``(b, c, h, w)``.
        masked: From :func:`draw_image_masks`; None to draw it here.
    """
    assert isinstance(model, ViT | ImageEncoder)
    masked = draw_image_masks(model, images) if masked is None else masked
    hidden = model.encode(images, masked=masked)
    pixels = model.reconstruct(hidden)
    side = model.grid * model.patch
    where = masked.view(-1, 1, model.grid, model.grid).repeat_interleave(model.patch, 2)
    where = where.repeat_interleave(model.patch, 3)
    errors = (pixels - images[..., :side, :side]).abs() * where
    return errors.sum() / (where.sum() * images.shape[1]), hidden


def compute_masked_language_loss(
    model: Model, texts: TextBatch, numbers: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the masked language modeling loss; return it and the hidden states.

    Args:
        model: An encoder of texts with token head.
        texts: The texts.
        numbers: From :func:`draw_token_numbers`; None to draw them here.
    """
    assert isinstance(model, Bert | TextEncoder)
    ids = texts.ids
    rank, action, random = draw_token_numbers(texts) if numbers is None else numbers
    eligible = texts.attention_mask
    for token in model.special_ids:
        eligible = eligible & (ids != token)
    rank = rank.masked_fill(~eligible, 2.0)
    chosen = eligible & (rank <= rank.min().clamp(min=PREDICTED_SHARE))
    replaced = torch.where(chosen & (action < MASKED_BELOW), model.mask_token_id, ids)
    random_ids = (random * model.vocabulary_size).long()
    replaced = torch.where(chosen & (action >= RANDOM_FROM), random_ids, replaced)
    hidden = model.encode(texts._replace(ids=replaced))
    # The number of chosen tokens is known on the device only. An upper bound, exceeded by one batch
    # in a billion, spares waiting for it, and computing logits for all tokens.
    count = ids.numel()
    deviation = math.sqrt(count * PREDICTED_SHARE * (1 - PREDICTED_SHARE))
    bound = math.ceil(PREDICTED_SHARE * count + 6 * deviation)
    rows = rank.flatten().topk(min(bound, count), largest=False).indices
    logits = model.reconstruct(hidden.flatten(0, 1).index_select(0, rows))
    labels = torch.where(chosen, ids, -1).flatten()[rows]
    return compute_mean_cross_entropy(logits, labels), hidden


def compute_mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over labels other than -1; 0 if there is none.

    Args:
        logits: ``(n, vocabulary)``.
        labels: ``(n,)``.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    total = cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    return total / (labels != -1).sum().clamp(min=1)
