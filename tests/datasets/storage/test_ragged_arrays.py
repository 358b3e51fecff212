"""Gathering from ragged arrays agrees with a slow loop."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.storage.padding import gather_padded_images
from datasets.storage.ragged_arrays import ImageBatch, RaggedImages, RaggedTexts
from datasets.storage.texts import Tokens

SIZES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=6)


@st.composite
def some_images(draw: st.DrawFn) -> tuple[list[torch.Tensor], RaggedImages]:
    sizes = draw(SIZES)
    if draw(st.booleans()):
        sizes = [sizes[0]] * len(sizes)  # arrays of one size gather in another way
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    single = [
        torch.randint(1, 256, (h, w, 3), dtype=torch.uint8, generator=generator) for h, w in sizes
    ]
    lengths = torch.tensor([image.numel() for image in single])
    flat = torch.cat([image.flatten() for image in single])
    return single, RaggedImages(flat, lengths.cumsum(0) - lengths, torch.tensor(sizes))


@settings(deadline=None)
@given(some_images(), st.data())
def test_images_are_padded_at_right_and_bottom(
    made: tuple[list[torch.Tensor], RaggedImages], data: st.DataObject
) -> None:
    single, ragged = made
    assert len(ragged) == len(single)
    index = data.draw(st.lists(st.integers(0, len(single) - 1), min_size=1, max_size=7))
    batch = ragged[torch.tensor(index)]
    height = max(single[i].shape[0] for i in index)
    width = max(single[i].shape[1] for i in index)
    expected = torch.zeros((len(index), 3, height, width), dtype=torch.uint8)
    for place, i in enumerate(index):
        for row in range(single[i].shape[0]):
            for column in range(single[i].shape[1]):
                expected[place, :, row, column] = single[i][row, column]
    assert torch.equal(batch.pixels, expected)
    assert batch.pixels.dtype == torch.uint8
    assert batch.sizes.tolist() == [list(single[i].shape[:2]) for i in index]
    assert ragged.nbytes >= sum(image.numel() for image in single)
    for image, i in zip(batch.split_images(), index, strict=True):
        assert torch.equal(image, single[i].permute(2, 0, 1))
    again = ragged.to(torch.device("cpu"))[torch.tensor(index)]
    assert torch.equal(again.pixels, batch.pixels)
    rows = torch.tensor(index)  # as on a GPU, where no image is looked at by itself
    starts = ragged._starts[rows]
    gathered = gather_padded_images(ragged.flat, starts, batch.sizes, height, width)
    assert torch.equal(gathered.permute(0, 3, 1, 2), expected)
    for image, i in zip(ImageBatch(expected, batch.sizes).split_images(), index, strict=True):
        assert torch.equal(image, single[i].permute(2, 0, 1))


TEXTS = st.lists(
    st.lists(st.integers(1, 30521), min_size=1, max_size=8).flatmap(
        lambda ids: st.tuples(st.just(ids), st.integers(0, len(ids)))
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(TEXTS, st.data())
def test_texts_are_padded_to_the_longest_of_the_batch(
    texts: list[tuple[list[int], int]], data: st.DataObject
) -> None:
    lengths = torch.tensor([len(ids) for ids, _ in texts])
    flat = torch.tensor([i for ids, _ in texts for i in ids], dtype=torch.int32)
    second_starts = torch.tensor([second for _, second in texts])
    ragged = RaggedTexts(flat, lengths.cumsum(0) - lengths, lengths, second_starts)
    index = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=7))
    batch = ragged[torch.tensor(index)]
    longest = max(len(texts[i][0]) for i in index)
    for place, i in enumerate(index):
        ids, second = texts[i]
        padding = [0] * (longest - len(ids))
        assert batch.ids[place].tolist() == ids + padding
        assert batch.attention_mask[place].tolist() == [True] * len(ids) + [False] * len(padding)
        segments = [int(position >= second) for position in range(len(ids))]
        assert batch.segments[place].tolist() == segments + padding
    assert batch.ids.dtype == batch.segments.dtype == torch.int64
    assert torch.equal(ragged.lengths, lengths)


@given(st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=6), st.data())
def test_selected_texts_keep_their_tokens(texts: list[list[int]], data: st.DataObject) -> None:
    lengths = np.array([len(text) for text in texts])
    flat = np.array([i for text in texts for i in text], dtype=np.int32)
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=8))
    kept = Tokens(flat, lengths, lengths).select(np.array(rows, dtype=np.int64))
    assert kept.flat.tolist() == [i for row in rows for i in texts[row]]
    assert kept.lengths.tolist() == [len(texts[row]) for row in rows]


def test_an_empty_batch() -> None:
    ragged = RaggedImages(
        torch.zeros(12, dtype=torch.uint8), torch.tensor([0]), torch.tensor([[2, 2]])
    )
    assert len(ragged[torch.zeros(0, dtype=torch.int64)].pixels) == 0
    texts = RaggedTexts(torch.ones(2), torch.tensor([0]), torch.tensor([2]), torch.tensor([2]))
    assert len(texts[torch.zeros(0, dtype=torch.int64)].ids) == 0
