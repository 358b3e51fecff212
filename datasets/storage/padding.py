"""Padding of a batch's texts and images to its longest text and its largest image.

Texts are padded with :data:`PAD_ID` behind their last token, images with 0 right and below.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

PAD_ID = 0  # the padding token of BERT's vocabularies


def pad_texts(
    flat: Tensor, starts: Tensor, lengths: Tensor, second_starts: Tensor, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the token IDs, attention mask and segments of a batch, each ``(b, longest)``.

    Args:
        flat: All token IDs, ``(total,)`` of an integer type.
        starts: The start of each text in ``flat``, ``(b,)`` int64.
        lengths: The number of tokens of each, ``(b,)`` int64.
        second_starts: The token at which the second text of each pair starts, ``(b,)`` int64.
        longest: The largest of the lengths, which the host knows.
    """
    position = torch.arange(longest, device=flat.device)
    attention_mask = position < lengths.unsqueeze(1)
    place = (starts.unsqueeze(1) + position).masked_fill_(~attention_mask, 0)
    ids = torch.zeros_like(place)
    if longest:
        ids = flat[place].long().masked_fill_(~attention_mask, PAD_ID)
    segments = ((position >= second_starts.unsqueeze(1)) & attention_mask).long()
    return ids, attention_mask, segments


def lengthen_texts(values: Tensor, length: int) -> Tensor:
    """Return an array of a batch of texts, ``(..., L)``, with at least ``length`` positions.

    Args:
        values: Token IDs, an attention mask or segments, for all of which padding is 0.
        length: The number of positions.
    """
    missing = length - values.shape[-1]
    return pad(values, (0, missing), value=PAD_ID) if missing > 0 else values


def pad_images(images: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Return padded pixels, ``(b, height, width, 3)`` uint8, of images ``(3, h, w)`` on the host.

    A copy each is 5 times faster there than :func:`gather_padded_images`.
    """
    pixels = torch.empty((len(images), height, width, 3), dtype=torch.uint8)
    for place, image in zip(pixels, images, strict=True):
        _, h, w = image.shape
        place[:h, :w] = image.permute(1, 2, 0)
        place[:h, w:] = 0
        place[h:] = 0
    return pixels


def gather_padded_images(
    flat: Tensor, starts: Tensor, sizes: Tensor, height: int, width: int
) -> Tensor:
    """Return padded pixels, ``(b, height, width, 3)``, without a loop over images.

    Args:
        flat: All pixels, ``(total,)`` uint8, at least as many as
            :func:`datasets.storage.ragged_arrays.required_length`.
        starts: The start of each image in ``flat``, ``(b,)`` int64.
        sizes: Height and width of each, ``(b, 2)`` int64.
        height: The largest height.
        width: The largest width.
    """
    device, length = flat.device, 3 * width
    row = torch.arange(height, device=device)
    column = torch.arange(length, device=device)
    heights, widths = sizes[:, :1], sizes[:, 1:]
    # Rows of the largest width are copied whole, and then cleared beyond an image's own width.
    windows = flat.as_strided((len(flat) - length + 1, length), (1, 1))
    place = (starts.unsqueeze(1) + 3 * row * widths).clamp_(max=len(windows) - 1)
    pixels = windows.index_select(0, place.flatten()).view(*place.shape, length)
    pixels *= (row < heights).to(torch.uint8).unsqueeze(2)
    pixels *= (column < 3 * widths).to(torch.uint8).unsqueeze(1)
    return pixels.view(len(starts), height, width, 3)
