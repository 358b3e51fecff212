"""Ragged arrays: images and texts of many sizes as flat arrays and start offsets.

On a GPU a batch is gathered without a loop over examples. On the host images are views of the flat
array until a crop is cut out of them. :mod:`datasets.storage.padding` pads the batches.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

from common.device_copies import copy_to_device
from datasets.storage.padding import gather_padded_images, pad_images, pad_texts


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images of different sizes.

    Args:
        source: The images one by one, each ``(3, h, w)`` uint8, views of
            the flat array; or :attr:`pixels`.
        sizes: Height and width of each in pixels, ``(b, 2)`` int64.
    """

    source: Tensor | list[Tensor]
    sizes: Tensor

    @cached_property
    def pixels(self) -> Tensor:
        """``(b, 3, H, W)`` uint8, padded with 0 right and below to the largest height and width."""
        if isinstance(self.source, Tensor):
            return self.source
        height, width = self.sizes.amax(dim=0).tolist()
        return pad_images(self.source, height, width).permute(0, 3, 1, 2)

    def split_images(self) -> list[Tensor]:
        """Return views of the images, each ``(3, h, w)`` uint8; on a GPU this synchronizes."""
        if not isinstance(self.source, Tensor):
            return self.source
        sizes = self.sizes.tolist()
        return [image[:, :h, :w] for image, (h, w) in zip(self.source, sizes, strict=True)]


class TextBatch(NamedTuple):
    """Texts of different lengths.

    Args:
        ids: Token IDs, ``(b, L)`` int64, padded to the batch's longest text.
        attention_mask: Which of them are tokens, not padding, ``(b, L)`` bool.
        segments: 1 in the second text of a pair, else 0, ``(b, L)`` int64.
    """

    ids: Tensor
    attention_mask: Tensor
    segments: Tensor


class RaggedImages:
    """Color images at their native sizes.

    Args:
        flat: All pixels, ``(total,)`` uint8: an image's rows one after another, each a row of
            (red, green, blue). May be memory-mapped, and longer: :func:`required_length`.
        starts: The start of each example in ``flat``, ``(n,)`` int64; examples may share pixels.
        sizes: Height and width of each, ``(n, 2)`` int64.
    """

    def __init__(self, flat: Tensor, starts: Tensor, sizes: Tensor) -> None:
        self.sizes = sizes.cpu()  # a batch's largest size is found without asking the device
        area = 3 * self.sizes.prod(dim=1)
        # Consecutive images of one size are rows of a matrix.
        self._even = (
            len(area) > 0
            and bool((self.sizes == self.sizes[0]).all() and area[0] > 0)
            and bool((starts % int(area[0]) == 0).all())
        )
        if self._even:
            flat = flat[: len(flat) // int(area[0]) * int(area[0])]
        else:
            missing = required_length(starts.cpu(), self.sizes) - len(flat)
            flat = torch.cat([flat, flat.new_zeros(missing)]) if missing > 0 else flat
        self.flat = flat
        self._starts = starts.to(flat.device)
        self._sizes = sizes.to(flat.device)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.sizes)

    def __getitem__(self, index: Tensor) -> ImageBatch:
        """Return the images ``index``, ``(b,)`` int64; host indices do not synchronize."""
        host = self.sizes[index.cpu()]
        index = copy_to_device(index, self.flat.device)
        sizes = self._sizes[index]
        if not len(index):
            return ImageBatch(self.flat.new_zeros((0, 3, 0, 0)), sizes)
        if self.flat.device.type == "cpu" and not self._even:
            return ImageBatch(
                self._slice_images(self._starts[index].tolist(), sizes.tolist()), sizes
            )
        height, width = host.amax(dim=0).tolist()
        if self._even:
            rows = self._starts[index] // (3 * height * width)
            pixels = self.flat.view(-1, height, width, 3)[rows]
        else:
            starts = self._starts[index]
            pixels = gather_padded_images(self.flat, starts, sizes, height, width)
        return ImageBatch(pixels.permute(0, 3, 1, 2), sizes)

    def _slice_images(self, starts: list[int], sizes: list[list[int]]) -> list[Tensor]:
        """Return images without a copy, each ``(3, h, w)``."""
        return [
            self.flat[start : start + 3 * h * w].view(h, w, 3).permute(2, 0, 1)
            for start, (h, w) in zip(starts, sizes, strict=True)
        ]

    @property
    def nbytes(self) -> int:
        """The bytes that pixels and offsets take."""
        return self.flat.nbytes + self._starts.nbytes + self._sizes.nbytes

    def to(self, device: torch.device) -> Self:
        """Return the images with everything on ``device``."""
        return type(self)(self.flat.to(device), self._starts.to(device), self.sizes)


def required_length(starts: Tensor, sizes: Tensor) -> int:
    """Return the length that the bytes of images of many sizes need, so that nothing is copied.

    Where the last row of any image starts, a row of the largest width must fit: a batch is
    gathered in rows of its largest width.
    """
    if not len(sizes):
        return 0
    last = starts + 3 * (sizes[:, 0] - 1).clamp(min=0) * sizes[:, 1]
    return int(last.max()) + 3 * int(sizes[:, 1].max())


class RaggedTexts:
    """Tokenized texts, or pairs of texts, of different lengths.

    Args:
        flat: All token IDs, ``(total,)`` of an integer type. May be memory-mapped.
        starts: The start of each example in ``flat``, ``(n,)`` int64; examples may share tokens.
        lengths: The number of tokens of each, ``(n,)`` int64.
        second_starts: The token at which the second text of a pair starts, ``(n,)`` int64; for
            single texts their length.
    """

    def __init__(
        self, flat: Tensor, starts: Tensor, lengths: Tensor, second_starts: Tensor
    ) -> None:
        self.flat = flat
        self.lengths = lengths.cpu()
        self._starts = starts.to(flat.device)
        self._lengths = lengths.to(flat.device)
        self._second_starts = second_starts.to(flat.device)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.lengths)

    @property
    def start_offsets(self) -> Tensor:
        """The start of each text in ``flat``, ``(n,)`` int64 on the host, equal for equal texts."""
        return self._starts.cpu()

    def __getitem__(self, index: Tensor) -> TextBatch:
        """Return the texts ``index``, ``(b,)`` int64; host indices do not synchronize."""
        host = self.lengths[index.cpu()]
        index = copy_to_device(index, self.flat.device)
        longest = int(host.max()) if len(host) else 0
        starts, lengths = self._starts[index], self._lengths[index]
        second_starts = self._second_starts[index]
        return TextBatch(*pad_texts(self.flat, starts, lengths, second_starts, longest))

    @property
    def nbytes(self) -> int:
        """The bytes that tokens and offsets take."""
        places = (self._starts, self._lengths, self._second_starts)
        return self.flat.nbytes + sum(tensor.nbytes for tensor in places)

    def to(self, device: torch.device) -> Self:
        """Return the texts with everything but ``lengths`` on ``device``."""
        flat, starts = self.flat.to(device), self._starts.to(device)
        return type(self)(flat, starts, self.lengths, self._second_starts.to(device))
