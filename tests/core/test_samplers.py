"""Samplers: what each promises about the examples of an epoch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from core.samplers import SAMPLERS
from datasets.benchmark import Split

groups = st.lists(st.integers(0, 3), min_size=4, max_size=200).filter(lambda g: len(set(g)) > 1)


def split_of(group: list[int]) -> Split:
    labels = torch.tensor(group)
    return Split(torch.zeros(len(group), 1), {"y": labels // 2}, labels)


def draw(name: str, split: Split, rows: Tensor, epoch: int = 0) -> Tensor:
    seed = Generator().manual_seed
    return SAMPLERS[name](split, rows, seed(epoch), Generator().manual_seed(7))


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@given(group=groups)
@settings(max_examples=25)
def test_indices_are_of_the_rows_and_repeat_from_their_seed(name: str, group: list[int]) -> None:
    split = split_of(group)
    rows = torch.arange(0, len(group), 2)
    drawn = draw(name, split, rows)
    assert set(drawn.tolist()) <= set(rows.tolist())
    assert len(drawn) <= len(rows)
    assert torch.equal(drawn, draw(name, split, rows))


@given(groups)
def test_uniform_sees_every_row_once(group: list[int]) -> None:
    rows = torch.arange(len(group))
    assert torch.equal(draw("uniform", split_of(group), rows).sort().values, rows)


def test_repetitions_are_kept() -> None:
    rows = torch.tensor([0, 1, 1, 1, 2])
    drawn = draw("uniform", split_of([0, 1, 2]), rows)
    assert drawn.bincount().tolist() == [1, 3, 1]


@pytest.mark.deviation("subsample")
@pytest.mark.parametrize(
    ("name", "of"), [("subsampled_classes", "y"), ("subsampled_groups", "group")]
)
@given(group=groups)
@settings(max_examples=50)
def test_subsets_are_equal_in_size_without_repeats_and_fixed(
    name: str, of: str, group: list[int]
) -> None:
    split = split_of(group)
    label = getattr(split, of)
    rows = torch.arange(len(group))
    drawn = draw(name, split, rows)
    sizes = [count for count in label[drawn].bincount().tolist() if count]
    present = label.bincount()
    assert sizes == [int(present[present > 0].min())] * len(set(label.tolist()))
    assert len(set(drawn.tolist())) == len(drawn)
    other = draw(name, split, rows, epoch=1)
    assert torch.equal(drawn.sort().values, other.sort().values)


@pytest.mark.deviation("balanced-draws")
@pytest.mark.parametrize(("name", "of"), [("class_balanced", "y"), ("group_balanced", "group")])
def test_balanced_draws_are_balanced(name: str, of: str) -> None:
    split = split_of([0] * 9000 + [1] * 600 + [2] * 300 + [3] * 100)
    label = getattr(split, of)
    rows = torch.arange(len(split))
    counts = label[draw(name, split, rows)].bincount().double()
    expected = len(rows) / len(counts)
    assert ((counts - expected).abs() < 5 * expected**0.5).all()  # five standard deviations
