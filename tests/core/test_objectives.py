"""Objectives agree with direct computation in float64, example by example."""

import math

import pytest
import torch

import datasets
from core.batch import Batch, Output
from core.objectives.end_task import EndTask
from core.objectives.group_losses import GroupLosses
from core.objectives.l1 import L1


@pytest.fixture
def data() -> tuple[Batch, Output]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    hidden = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    group = torch.randint(0, 3, (30,), generator=generator)  # group 3 is absent
    return Batch(torch.zeros(30, 1), group // 2, group), Output(logits, hidden)


def loss(logits: torch.Tensor, label: int) -> float:
    values: list[float] = logits.tolist()
    return math.log(sum(math.exp(v) for v in values)) - values[label]


def test_end_task(data: tuple[Batch, Output]) -> None:
    batch, output = data
    each = [loss(o, int(y)) for o, y in zip(output.outputs, batch.y, strict=True)]
    found = EndTask().losses(batch, output)
    assert found.values.tolist() == pytest.approx([sum(each) / 30])
    assert found.counts.tolist() == [30]


def test_group_losses(data: tuple[Batch, Output]) -> None:
    batch, output = data
    assert batch.group is not None
    objective = GroupLosses()
    names = objective.names(datasets.load("colored_digits"))
    found = objective.losses(batch, output)
    assert len(found.values) == len(names) == 4
    for group in range(4):
        members = (batch.group == group).nonzero().flatten().tolist()
        each = [loss(output.outputs[i], int(batch.y[i])) for i in members]
        assert found.counts[group] == len(members)
        expected = sum(each) / len(each) if each else 0.0
        assert found.values[group].item() == pytest.approx(expected)


def test_l1_is_normalised_by_its_size(data: tuple[Batch, Output]) -> None:
    batch, output = data
    expected = sum(abs(v) for row in output.representation.tolist() for v in row) / (30 * 5)
    assert L1().losses(batch, output).values.tolist() == pytest.approx([expected])
