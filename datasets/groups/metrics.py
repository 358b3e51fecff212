"""Metrics of groups, counted on the device and copied to the host at once."""

from typing import Any

import torch
from torch import Tensor


def compute_label_accuracy(label: Tensor, correct: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return accuracy and number of examples per label.

    Args:
        label: Class or group of each example, ``(n,)`` int64 in ``0..count-1``.
        correct: Whether each was classified rightly, ``(n,)`` bool.
        count: The number of labels.

    Returns:
        Accuracies, ``(count,)`` float64, NaN where a label has no example; counts, ``(count,)``
        int64.
    """
    counts = torch.bincount(label, minlength=count)
    right = torch.bincount(label[correct], minlength=count)
    return right.double() / counts.double(), counts


def compute_group_metrics(
    correct: Tensor,
    y: Tensor,
    group: Tensor | None,
    n_classes: int,
    n_groups: int,
    train_group_shares: Tensor | None,
) -> dict[str, Any]:
    """Return the accuracies by which group robustness is judged, all in [0, 1].

    Args:
        correct: Whether each example was classified rightly, ``(n,)`` bool.
        y: Labels, ``(n,)`` int64.
        group: Groups, ``(n,)`` int64, or None where unknown.
        n_classes: The number of classes.
        n_groups: The number of groups.
        train_group_shares: Group shares of the training split, ``(n_groups,)``, for the
            training-weighted average of Sagawa et al. (2020, app. C.1).

    Returns:
        ``average_accuracy``, ``worst_class_accuracy``, ``class_accuracy``; with groups also
        ``worst_group_accuracy``, ``training_weighted_accuracy`` (None where a group of the
        training split is missing here), ``group_accuracy`` (None where a group is empty; empty
        groups do not count as worst) and ``group_count``.
    """
    by_class, _ = compute_label_accuracy(y, correct, n_classes)
    classes = by_class.tolist()
    metrics: dict[str, Any] = {
        "average_accuracy": int(correct.sum()) / len(correct),
        "worst_class_accuracy": _worst_defined(classes),
        "class_accuracy": _none_for_nan(classes),
    }
    if group is None:
        return metrics
    by_group, counts = compute_label_accuracy(group, correct, n_groups)
    groups = by_group.tolist()
    metrics |= {
        "worst_group_accuracy": _worst_defined(groups),
        "group_accuracy": _none_for_nan(groups),
        "group_count": counts.tolist(),
    }
    if train_group_shares is None:
        return metrics
    shares = train_group_shares.tolist()
    pairs = [(share, value) for share, value in zip(shares, groups, strict=True) if share > 0]
    is_defined = all(value == value for _, value in pairs)
    weighted = sum(share * value for share, value in pairs) if is_defined else None
    return metrics | {"training_weighted_accuracy": weighted}


def _worst_defined(values: list[float]) -> float:
    return min(value for value in values if value == value)


def _none_for_nan(values: list[float]) -> list[float | None]:
    return [value if value == value else None for value in values]
