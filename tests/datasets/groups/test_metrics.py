"""Group metrics agree with a slow reference in pandas."""

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.groups.metrics import compute_group_metrics

examples = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans()), min_size=1, max_size=60
)


@pytest.mark.medium
@given(examples)
def test_agrees_with_pandas(rows: list[tuple[int, int, bool]]) -> None:
    table = pd.DataFrame(rows, columns=["y", "a", "correct"])
    table["group"] = 2 * table.y + table.a
    found = compute_group_metrics(
        torch.tensor(table.correct.tolist()), torch.tensor(table.y.tolist()),
        torch.tensor(table.group.tolist()), 3, 6, None,
    )  # fmt: skip
    by_group = table.groupby("group").correct.agg(["mean", "size"])
    assert found["average_accuracy"] == pytest.approx(table.correct.mean())
    assert found["worst_group_accuracy"] == pytest.approx(by_group["mean"].min())
    assert found["worst_class_accuracy"] == pytest.approx(table.groupby("y").correct.mean().min())
    for group in range(6):
        if group in by_group.index:
            assert found["group_accuracy"][group] == pytest.approx(by_group["mean"][group])
            assert found["group_count"][group] == by_group["size"][group]
        else:
            assert found["group_accuracy"][group] is None
            assert found["group_count"][group] == 0


def test_training_weighted_average() -> None:
    correct = torch.tensor([True, False, True, True])
    group = torch.tensor([0, 0, 1, 1])
    shares = torch.tensor([0.9, 0.1], dtype=torch.float64)
    found = compute_group_metrics(correct, torch.tensor([0, 0, 0, 0]), group, 1, 2, shares)
    assert found["training_weighted_accuracy"] == pytest.approx(0.9 * 0.5 + 0.1 * 1.0)


def test_training_weighted_average_is_undefined_without_a_training_group() -> None:
    correct = torch.tensor([True])
    shares = torch.tensor([0.5, 0.5], dtype=torch.float64)
    zero = torch.tensor([0])
    assert (
        compute_group_metrics(correct, zero, zero, 1, 2, shares)["training_weighted_accuracy"]
        is None
    )


def test_without_groups_there_are_class_metrics_only() -> None:
    found = compute_group_metrics(
        torch.tensor([True, False]), torch.tensor([0, 1]), None, 2, 2, None
    )
    assert found["worst_class_accuracy"] == 0
    assert "worst_group_accuracy" not in found
