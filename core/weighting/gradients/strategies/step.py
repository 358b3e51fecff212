"""Input and result of a strategy."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ..head_gradients import HeadGradients
from ..losses import LossGraph
from ..shared_features import SharedFeatures


class StepInputs(NamedTuple):
    """Losses, the parameters that they depend on, and the features between these.

    Args:
        losses: The losses.
        shared: Shared parameters that require a gradient, each once.
        heads: The parameters of the heads and their gradients so far.
        features: The features between shared parameters and heads, where they are known.
    """

    losses: LossGraph
    shared: Sequence[Tensor]
    heads: HeadGradients
    features: SharedFeatures | None


class BackwardResult(NamedTuple):
    """Weights and diagnostics of one call of :func:`core.weighting.backward`.

    Args:
        weights: Weights of the losses' gradients, ``(k,)``, 0 for absent losses; None for
            weightings that combine the gradients otherwise.
        gram: Inner products of the present losses' gradients, float64; None where the step needs no
            gradient of each. For ``matrix_free`` a model of them, for ``representation`` those of
            the features' gradients.
        strategy: ``scalarised`` (one backward pass of the weighted sum), ``exact``, ``matrix_free``
            or ``representation``.
        residual: Measured error of matrix-free weights, ``max |(G w - b) / b|`` with
            ``b = w^(-1/alpha)``, at most 0.01; NaN for other strategies.
        products: Number of products with the Gram matrix. Where it is above 0 and the strategy is
            ``exact``, the matrix-free search did not converge.
    """

    weights: Tensor | None
    gram: Tensor | None
    strategy: str
    residual: float = math.nan
    products: int = 0


def finish_step(inputs: StepInputs, weights: Tensor, gram: Tensor, strategy: str) -> BackwardResult:
    """Accumulate the heads' gradients and return the result.

    Args:
        inputs: The inputs of the step, whose shared gradients are accumulated.
        weights: The weights of the present losses.
        gram: The Gram matrix that they are from.
        strategy: The strategy.
    """
    weights = inputs.losses.expand_weights(weights)
    inputs.heads.accumulate(weights)
    return BackwardResult(weights, gram, strategy)
