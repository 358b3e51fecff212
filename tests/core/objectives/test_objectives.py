"""Objectives agree with direct computation in float64, example by example."""

import math
import re

import pytest
import torch

import datasets
from core.batch import Batch, Output
from core.models.digits_cnn import DigitsCNN
from core.objectives.base import Objective, Step
from core.objectives.end_task import EndTask
from core.objectives.group_losses import GroupLosses
from core.objectives.l1 import L1
from core.registry import find_components


@pytest.fixture
def data() -> tuple[Batch, Output, Step]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    hidden = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    group = torch.randint(0, 3, (30,), generator=generator)  # group 3 is absent
    batch, output = Batch(torch.zeros(30, 1), {"y": group // 2}, group), Output(logits, hidden)
    step = Step(DigitsCNN({"y": 2}), batch, lambda: output, lambda _: batch)
    return batch, output, step


def compute_nll(logits: torch.Tensor, label: int) -> float:
    values: list[float] = logits.tolist()
    return math.log(sum(math.exp(v) for v in values)) - values[label]


def test_end_task(data: tuple[Batch, Output, Step]) -> None:
    batch, output, step = data
    assert isinstance(output.outputs, torch.Tensor)
    each = [compute_nll(o, int(y)) for o, y in zip(output.outputs, batch.y, strict=True)]
    found = EndTask().compute_losses(step)
    assert isinstance(found.values, torch.Tensor)
    assert found.values.tolist() == pytest.approx([sum(each) / 30])
    assert found.counts.tolist() == [30]


def test_group_losses(data: tuple[Batch, Output, Step]) -> None:
    batch, output, step = data
    assert batch.group is not None
    objective = GroupLosses()
    names = objective.name_losses(datasets.load_benchmark("colored_digits"))
    found = objective.compute_losses(step)
    assert isinstance(found.values, torch.Tensor)
    assert isinstance(output.outputs, torch.Tensor)
    assert len(found.values) == len(names) == 4
    for group in range(4):
        members = (batch.group == group).nonzero().flatten().tolist()
        each = [compute_nll(output.outputs[i], int(batch.y[i])) for i in members]
        assert found.counts[group] == len(members)
        expected = sum(each) / len(each) if each else 0.0
        assert found.values[group].item() == pytest.approx(expected)


@pytest.mark.deviation("l1-size")
def test_l1_is_a_mean(data: tuple[Batch, Output, Step]) -> None:
    _, output, step = data
    assert step.output is output
    expected = sum(abs(v) for row in output.representation.tolist() for v in row) / (30 * 5)
    found = L1().compute_losses(step).values
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == pytest.approx([expected])


def test_l1_covers_all_forward_passes(data: tuple[Batch, Output, Step]) -> None:
    _, output, step = data
    assert step.output is output
    other = torch.full((4, 7), -2.0, dtype=torch.float64)
    step.hidden.append(other)
    alone = output.representation.abs().mean().item()
    found = L1().compute_losses(step).values
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == pytest.approx([alone + 2.0])


@pytest.mark.parametrize("dataset", ["colored_digits", "two_digits"])
def test_losses_have_the_names_by_which_recipes_are_checked(dataset: str) -> None:
    benchmark = datasets.load_benchmark(dataset)
    for kind in find_components("core.objectives", Objective).values():
        if kind.needs - {"encoder"} <= benchmark.provides:
            names = kind().name_losses(benchmark)
            assert all(re.fullmatch(kind.loss_names, name) for name in names)
