"""Alpha-fair weights from products with the Gram matrix, without K gradients.

``G v = J F (J F)' v`` with ``F`` the losses' gradients with respect to the features and ``J`` the
features' derivative with respect to the parameters costs one vector-Jacobian and one
Jacobian-vector product (JVP). The weights solve ``G w = w^(-1/alpha)`` for a model of ``G``: solve,
measure ``G w``, correct the model, until ``w`` solves the equation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..solvers.alpha_fair import solve_alpha_fair
from .gram_model import GramModel, Vector, list_candidates, to_array
from .jvp import FeatureJvp
from .shared_features import SharedFeatures

MAX_RESIDUAL = 1e-2  # of max |(G w - b) / b|, b = w^(-1/alpha)
MAX_PRODUCTS = 16  # then the step is made exactly
# Largest relative difference between v G v and |J' F' v|^2: the rounding of half precision.
MAX_INCONSISTENCY = 2e-2


class SearchResult(NamedTuple):
    """Weights that a search found, and the gradients of their sum.

    Args:
        weights: The weights, ``(k,)`` float64 on the CPU.
        parameters: The parameters below the features.
        gradients: Their gradients of the weighted sum before ``factor``, None for those without.
        factor: The number that makes them the gradients of the sum with these weights.
        model: The last model of the Gram matrix, whose solution the weights are up to a factor.
        residual: The measured residual.
    """

    weights: Tensor
    parameters: Sequence[Tensor]
    gradients: list[Tensor | None]
    factor: float
    model: Tensor
    residual: float


def search_weights(
    rows: Tensor,
    features: SharedFeatures,
    parameters: Sequence[Tensor],
    alpha: float,
    known: Tensor | None = None,
) -> tuple[SearchResult | None, int]:
    """Return weights with a measured residual of at most 0.01, and the number of products begun.

    The weights are None where none were found.

    Args:
        rows: The losses' gradients with respect to the features, ``(k, n)``.
        features: The features.
        parameters: The shared parameters below the features.
        alpha: The fairness.
        known: The contribution of other parameters to the Gram matrix, ``(k, k)``.

    Raises:
        RuntimeError: If an operation of the graph has no JVP.
    """
    jvp = FeatureJvp(features.edges, parameters)
    model = GramModel(list_candidates(rows, features), 0.0 if known is None else to_array(known))
    if not model.candidates:
        return None, 0
    for products in range(1, MAX_PRODUCTS + 1):
        matrix = torch.from_numpy(model.build_matrix())
        if not torch.isfinite(matrix).all():
            return None, products
        weights = solve_alpha_fair(matrix, alpha).weights.numpy()
        start = torch.from_numpy(weights).to(rows) @ rows
        gradients = list(features.backpropagate(start, parameters))
        derivative = torch.cat([t.flatten() for t in jvp(gradients)])
        image = to_array(rows @ derivative.to(rows.dtype))
        if not _is_consistent(weights, image, gradients):
            return None, products
        factor, residual = _minimize_residual(weights, image + np.dot(model.known, weights), alpha)
        if residual <= MAX_RESIDUAL:
            found = torch.from_numpy(weights * factor)
            result = SearchResult(found, parameters, gradients, factor, matrix, residual)
            return result, products
        model.add_product(weights, image, residual)
    return None, MAX_PRODUCTS


def _minimize_residual(weights: Vector, image: Vector, alpha: float) -> tuple[float, float]:
    """Return the factor of the weights that makes the residual least, and that residual."""
    ratios = image * weights ** (1 / alpha)
    if not (np.isfinite(ratios).all() and ratios.max() > 0):
        return 1.0, np.inf
    middle = (ratios.min() + ratios.max()) / 2
    if ratios.min() <= 0:
        return 1.0, float(np.abs(ratios - 1).max())
    return float(middle ** (-alpha / (1 + alpha))), float(np.abs(ratios / middle - 1).max())


def _is_consistent(weights: Vector, image: Vector, gradients: Sequence[Tensor | None]) -> bool:
    """Return whether the two products agree on the step's squared length."""
    squares = [g.double().square().sum() for g in gradients if g is not None]
    square = float(torch.stack(squares).sum()) if squares else 0.0
    return bool(abs(float(weights @ image) - square) <= MAX_INCONSISTENCY * square and square > 0)
