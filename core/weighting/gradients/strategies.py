"""The ways from losses to gradients, between which a step chooses."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.weighting.base import GradientWeighting, GramWeighting, LossWeighting, Weighting
from core.weighting.gradients.last_layers import tail
from core.weighting.gradients.losses import Losses
from core.weighting.gradients.low_rank import spans
from core.weighting.gradients.matrix_free import PRODUCTS, Found, search
from core.weighting.gradients.shared_features import Features
from core.weighting.gradients.task_gradients import Flat, Heads, accumulate_all, gram_of
from core.weighting.methods.fairgrad import FairGrad


class Step(NamedTuple):
    """What :func:`backward` did.

    Args:
        weights: The weights of the losses' gradients, ``(k,)``, 0 for absent losses; None for
            weightings that combine the gradients otherwise.
        gram: The inner products by which they were chosen, of the present losses' gradients,
            float64; None where none were needed. For ``matrix_free`` a model of them.
        way: ``plain`` (one backward pass of the weighted sum), ``exact``, ``matrix_free`` or
            ``representation``.
        residual: The measured error of matrix-free weights, ``max |(G w - b) / b|`` with
            ``b = w^(-1/alpha)``, at most 0.01; NaN for other ways.
        products: Products with the Gram matrix that were made: where this is not 0 and the way
            ``exact``, the matrix-free search did not converge.
    """

    weights: Tensor | None
    gram: Tensor | None
    way: str
    residual: float = math.nan
    products: int = 0


class Problem(NamedTuple):
    """Losses, the parameters they depend on, and what is between them."""

    losses: Losses
    flat: Flat
    heads: Heads
    features: Features | None


def plain(losses: Losses, weighting: LossWeighting) -> Step:
    """Descend the weighting's objective; its state moves once."""
    with torch.enable_grad():
        leaf = torch.where(losses.present.to(losses.values.device), losses.values, 0)
        leaf.requires_grad_()
        transformed = weighting.transform_losses(leaf)
        transformed.retain_grad()
        weighting.compute_objective(transformed).backward()
    assert leaf.grad is not None
    assert transformed.grad is not None
    losses.backward(leaf.grad)
    return Step(transformed.grad.detach(), None, "plain")


def standing(problem: Problem, weights: Tensor) -> Step:
    """Take weights, ``(k,)``, that are known beforehand: one pass."""
    losses, heads = problem.losses, problem.heads
    weights = losses.expand(weights[losses.present.to(weights.device)])
    if heads.parameters:
        own = weights if heads.weighted else losses.present.to(weights)
        losses.backward(own, heads.parameters, keep=True)
    losses.backward(weights, problem.flat.parameters)
    return Step(weights, None, "plain")


def exact(problem: Problem, weighting: Weighting, by_features: Tensor | None = None) -> Step:
    """Hold all gradients of the shared parameters.

    Args:
        problem: The losses and parameters.
        weighting: A Gram or gradient weighting.
        by_features: The gradients by the features, ``(k, n)``, where they are known; the heads
            have theirs then.
    """
    flat, heads = problem.flat, problem.heads
    if isinstance(weighting, GramWeighting):
        _passes(problem, by_features, spanned=True)
        gram = flat.gram()
        weights = weighting.compute_weights(gram)
        flat.accumulate(weights)
        return _ended(problem, weights, gram, "exact")
    assert isinstance(weighting, GradientWeighting)
    _passes(problem, by_features, spanned=False)
    present = None if problem.losses.present.all() else problem.losses.present
    flat.accumulate_vector(weighting.combine_gradients(flat.matrix(), present))
    heads.accumulate(None)
    return Step(None, None, "exact")


def _passes(problem: Problem, by_features: Tensor | None, spanned: bool) -> None:
    """Note the gradients of the present losses by the shared parameters, and by the heads."""
    losses, flat, heads, features = problem
    present = losses.present.nonzero().flatten().tolist()
    if features is not None and by_features is None:
        features = features if features.separate(losses, flat.parameters) else None
    ends = [edge[0] for edge in losses.edges()] if features is None else features.nodes()
    if spanned:
        flat.take(spans(ends, flat.parameters, len(present)))
    if features is None:
        inputs = [*flat.inputs, *heads.parameters]
        for loss in present:
            found = losses.gradients_of(loss, inputs, keep=loss != present[-1])
            flat.add(found[: len(flat.inputs)])
            heads.add(loss, found[len(flat.inputs) :])
            del found
        flat.check_reached(ends)
        return
    # No loss meets the other losses' heads K times, and the heads' activations are let go.
    rows = features.each(losses, heads) if by_features is None else iter(by_features)
    for loss, row in zip(present, rows, strict=True):
        flat.add(features.pull(row, flat.inputs, keep=loss != present[-1]))
    flat.check_reached(ends)


def representation(problem: Problem, weighting: GramWeighting) -> Step:
    """Weigh by the gradients of the features in place of the parameters': an approximation."""
    losses, flat, heads, features = problem
    assert features is not None
    rows = features.gradients(losses, heads)
    gram = gram_of(rows)
    weights = weighting.compute_weights(gram)
    start = weights.to(rows) @ rows
    del rows
    accumulate_all(flat.parameters, features.pull(start, flat.parameters, keep=False))
    return _ended(problem, weights, gram, "representation")


def matrix_free(problem: Problem, weighting: FairGrad) -> Step:
    """Solve by products with the Gram matrix; exactly where that does not converge."""
    losses, flat, heads, features = problem
    assert features is not None
    rows = features.gradients(losses, heads)
    try:
        found, known = _searched(rows, features, flat.parameters, weighting.alpha)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError):  # an operation without a second derivative
        found = None
    weighting.waited = 0
    if found is None:
        # By what the step cost: "auto" would otherwise search in vain at every step with more tasks
        # than a search costs passes, and take the passes after it.
        weighting.products = PRODUCTS + len(rows)
        weighting.fallbacks += 1
        return exact(problem, weighting, rows)._replace(products=PRODUCTS)
    weighting.products = found.products
    weighting.set_weights(found.weights.to(rows.device))
    accumulate_all(found.parameters, found.gradients, found.factor)
    if known is not None:
        known.accumulate(found.weights)
    step = _ended(problem, found.weights, found.model, "matrix_free")
    return step._replace(residual=found.residual, products=found.products)


def _searched(
    rows: Tensor, features: Features, parameters: Sequence[Tensor], alpha: float
) -> tuple[Found | None, Flat | None]:
    """Return what the search found below the trunk's cheap end, and the gradients in that."""
    end = tail(features, parameters, len(rows))
    if end is None:
        return search(rows, features, parameters, alpha), None
    own, below = Flat(end.parameters), end.features
    own.take(spans(features.nodes(), own.parameters, len(rows)))
    inputs = [*below.edges, *own.inputs]
    lower = rows.new_empty(len(rows), sum(below.sizes))
    for row, room in zip(rows, lower, strict=True):
        gradients = features.pull(row, inputs)
        room.copy_(below.joined(gradients[:1]))
        own.add(gradients[1:])
    others = {id(parameter) for parameter in own.parameters}
    rest = [parameter for parameter in parameters if id(parameter) not in others]
    return search(lower, below, rest, alpha, own.gram()), own


def _ended(problem: Problem, weights: Tensor, gram: Tensor, way: str) -> Step:
    weights = problem.losses.expand(weights)
    problem.heads.accumulate(weights)
    return Step(weights, gram, way)
