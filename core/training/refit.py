"""Refit the last layer, as Deep Feature Reweighting does.

Kirichenko, Izmailov & Wilson, Last Layer Re-Training is Sufficient for Robustness to Spurious
Correlations, ICLR 2023.
"""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Generator, Tensor

MAX_ITERATIONS = 1000


def refit_last_layer(
    features: Tensor,
    y: Tensor,
    group: Tensor,
    classes: int,
    c: float,
    refits: int,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Fit a linear layer on random subsets with groups of equal size, and average the solutions.

    Each is a logistic regression with an L1 penalty (liblinear) on features standardized by all
    given examples; several classes are fitted one against the rest. The result is for the features
    as they are given.

    Args:
        features: Inputs of the layer, ``(n, d)``.
        y: Labels, ``(n,)`` int64; each class occurs.
        group: Group numbers, ``(n,)`` int64. Groups without examples do not count.
        classes: The number of classes.
        c: Inverse strength of the penalty.
        refits: The number of subsets.
        generator: Draws the subsets.

    Returns:
        Weight ``(classes, d)`` and bias ``(classes,)``, of the features' type and device.

    Raises:
        ValueError: If a class has no example.
    """
    labels = y.cpu().numpy()
    absent = sorted(set(range(classes)) - set(labels.tolist()))
    if absent:
        raise ValueError(f"no example of class {absent[0]} to fit the last layer on")
    scaler = StandardScaler()
    scaled = scaler.fit_transform(features.double().cpu().numpy())
    total = np.zeros((1 if classes == 2 else classes, scaled.shape[1] + 1))
    for _ in range(refits):
        rows = _draw_balanced(group.cpu(), generator).numpy()
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        total += _fit_logistic(scaled[rows], labels[rows], classes, c, seed)
    solution = torch.from_numpy(total / refits)
    weight = solution[:, :-1] / torch.from_numpy(scaler.scale_)
    bias = solution[:, -1] - weight @ torch.from_numpy(scaler.mean_)
    if classes == 2:  # the two logits differ by the decision value
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return weight.to(features), bias.to(features)


def _draw_balanced(group: Tensor, generator: Generator) -> Tensor:
    """Return rows with as many examples of each group as the smallest has."""
    order = torch.randperm(len(group), generator=generator)
    members = [order[group[order] == number] for number in group.unique()]
    size = min(len(rows) for rows in members)
    return torch.cat([rows[:size] for rows in members])


def _fit_logistic(x: np.ndarray, y: np.ndarray, classes: int, c: float, seed: int) -> np.ndarray:
    """Return coefficients and intercepts, ``(classes, d + 1)``; one row for two classes."""
    rows = []
    for label in [1] if classes == 2 else range(classes):
        model = LogisticRegression(
            C=c, l1_ratio=1.0, solver="liblinear", max_iter=MAX_ITERATIONS, random_state=seed
        )
        with warnings.catch_warnings():  # a solution short of the last digit is good enough
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y == label)
        rows.append(np.concatenate([model.coef_[0], model.intercept_]))
    return np.stack(rows)
