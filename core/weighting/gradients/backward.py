"""One training step's gradients: :func:`core.weighting.backward`."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..base import AlphaFairWeighting, GramWeighting, LossWeighting, Weighting
from ..errors import WeightingError, describe_unknown_name
from .accumulation import list_trainable
from .head_gradients import HeadGradients
from .losses import LossGraph
from .low_rank import estimate_pass_cost
from .shared_features import SharedFeatures
from .strategies.exact import backward_exact
from .strategies.matrix_free import backward_matrix_free
from .strategies.representation import backward_representation
from .strategies.scalarised import apply_cached_weights, descend_objective
from .strategies.step import BackwardResult, StepInputs

STRATEGIES = ("exact", "matrix_free", "representation", "auto")


def backward(
    losses: Tensor | Sequence[Tensor],
    weighting: Weighting,
    *,
    shared: Iterable[Tensor],
    heads: Iterable[Tensor] = (),
    features: Tensor | Sequence[Tensor] | None = None,
    present: Tensor | Sequence[bool] | None = None,
    strategy: str = "exact",
    weighted_heads: bool = False,
) -> BackwardResult:
    """Accumulate one step's gradients in ``.grad``, as ``Tensor.backward`` would; frees the graph.

    Frozen parameters and those that no loss depends on keep their ``.grad``. Clip gradients after
    the call. Hooks on tensors run once per pass; those of ``DistributedDataParallel`` do not run.

    Args:
        losses: The losses, ``(k,)``, or a sequence of tensors with ``k`` entries in all, with a
            graph, before the weighting's own ``transform_losses``. Scalars, in a sequence or
            stacked, cost least.
        weighting: Any weighting. A loss weighting takes one backward pass of its objective, in
            which every parameter takes part, the weighting's own too: ``heads`` are weighted, and
            the arguments after it are ignored.
        shared: The parameters whose gradients are combined.
        heads: The other parameters, of one or several losses. They get the sum of the losses'
            gradients.
        features: The tensors between shared parameters and heads, through which alone the losses
            depend on the shared parameters.
        present: Mask of the losses that have examples in this batch, ``(k,)`` bool, cheapest on the
            CPU. Others are left out of the Gram matrix and have weight 0.
        strategy: How the task gradients are computed (see ``docs/weighting.md``): ``exact`` (K
            passes through the trunk), ``matrix_free`` (products with the Gram matrix, for
            alpha-fair weightings), ``auto`` (the cheaper of these), or ``representation`` (an
            approximation by the gradients of the features, for Gram weightings).
        weighted_heads: Whether the heads' gradients are weighted too, as in the published code of
            mgda, imtl and nashmtl; in that of pcgrad, graddrop, cagrad and fairgrad they are not.
            Gradient weightings have no weights for it.

    Returns:
        The weights, the Gram matrix, and the strategy that was taken.

    Raises:
        TypeError: If an argument is of another type, such as a module in place of its parameters.
        WeightingError: If the arguments do not fit each other, or the strategy is unknown.
    """
    if strategy not in STRATEGIES:
        raise WeightingError(describe_unknown_name("strategy", str(strategy), STRATEGIES))
    if not isinstance(weighting, Weighting):
        raise TypeError(f"weighting is {weighting!r}, expected the result of load_weighting")
    parts = LossGraph(losses, present)
    if isinstance(weighting, LossWeighting):
        return descend_objective(parts, weighting)
    inputs = _make_inputs(parts, shared, heads, features, weighted_heads)
    parts.apply_transform(weighting.transform_losses)
    if not parts.present.any():
        return BackwardResult(torch.zeros_like(parts.values), None, "scalarised")
    if isinstance(weighting, GramWeighting):
        weights = weighting.use_cached_weights()
        if weights is not None and len(weights) == len(parts.values):
            return apply_cached_weights(inputs, weights)
    taken = _choose_strategy(strategy, inputs, weighting)
    if taken == "matrix_free":
        assert isinstance(weighting, AlphaFairWeighting)
        return backward_matrix_free(inputs, weighting)
    if taken == "representation":
        assert isinstance(weighting, GramWeighting)
        return backward_representation(inputs, weighting)
    return backward_exact(inputs, weighting)


def _make_inputs(
    losses: LossGraph,
    shared: Iterable[Tensor],
    heads: Iterable[Tensor],
    features: Tensor | Sequence[Tensor] | None,
    weighted_heads: bool,
) -> StepInputs:
    """Return the inputs of a step.

    Raises:
        TypeError: If parameters are of another type.
        WeightingError: If no shared parameter requires a gradient, or one is among the heads too.
    """
    trainable = list_trainable("shared", shared)
    if not any(parameter.numel() for parameter in trainable):
        raise WeightingError("no shared parameter requires a gradient: there is nothing to weight")
    head_gradients = HeadGradients(heads, weighted_heads)
    shared_ids = {id(parameter) for parameter in trainable}
    common = sum(id(parameter) in shared_ids for parameter in head_gradients.parameters)
    if common:
        raise WeightingError(
            f"{common} parameters are in shared and in heads, expected each in one"
        )
    shared_features = None if features is None else SharedFeatures(features)
    return StepInputs(losses, trainable, head_gradients, shared_features)


def _choose_strategy(strategy: str, inputs: StepInputs, weighting: Weighting) -> str:
    """Return ``exact``, ``matrix_free`` or ``representation``.

    Raises:
        WeightingError: If the strategy does not fit the inputs or the weighting.
    """
    if strategy == "exact":
        return "exact"
    features = inputs.features
    if strategy == "auto":
        if features is None or not isinstance(weighting, AlphaFairWeighting):
            return "exact"
        if not features.separate_losses(inputs.losses, inputs.shared):
            return "exact"
        tasks = int(inputs.losses.present.sum())
        passes = tasks * estimate_pass_cost(features.list_nodes(), inputs.shared, tasks)
        return "matrix_free" if weighting.search_history.choose_search(passes) else "exact"
    if features is None:
        raise WeightingError(
            f"strategy={strategy!r} needs features; without features, use 'exact' or 'auto'"
        )
    if strategy == "matrix_free" and not isinstance(weighting, AlphaFairWeighting):
        raise WeightingError(
            "strategy='matrix_free' solves the equation of alpha-fair weights: it works for "
            "fairgrad and nashmtl; use 'exact'"
        )
    if not isinstance(weighting, GramWeighting):
        raise WeightingError(f"strategy={strategy!r} is for Gram weightings; use 'exact'")
    if not features.separate_losses(inputs.losses, inputs.shared):
        raise WeightingError(
            f"strategy={strategy!r}: a loss depends on shared parameters past the features, one "
            "feature was made from another, or one has a hook; name all tensors that are between "
            "shared parameters and heads, none of them made from another, or use 'exact'"
        )
    return strategy
