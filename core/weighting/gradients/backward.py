"""One training step's gradients: ``core.weighting.backward``."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from common.errors import UserError, unknown_name_message
from core.weighting.base import GramWeighting, LossWeighting, Weighting
from core.weighting.gradients.losses import Losses
from core.weighting.gradients.low_rank import cost_of_pass
from core.weighting.gradients.shared_features import Features
from core.weighting.gradients.strategies import (
    Problem,
    Step,
    exact,
    matrix_free,
    plain,
    representation,
    standing,
)
from core.weighting.gradients.task_gradients import Flat, Heads
from core.weighting.methods.fairgrad import FairGrad

WAYS = ("exact", "matrix_free", "representation", "auto")

# Passes through the trunk that a product with the Gram matrix costs, and steps after which "auto"
# looks again whether matrix-free has become cheaper. No clock decides, so that a run that is
# repeated or goes on from a checkpoint takes the same steps.
PRODUCT, LOOK_AGAIN = 2.2, 100
FEWEST = 3  # products of the easiest searches


def backward(
    losses: Tensor | Sequence[Tensor],
    weighting: Weighting,
    *,
    shared: Iterable[Tensor],
    heads: Iterable[Tensor] = (),
    features: Tensor | Sequence[Tensor] | None = None,
    present: Tensor | None = None,
    gradients: str = "exact",
    weighted_heads: bool = False,
) -> Step:
    """Accumulate one step's gradients in ``.grad``, as ``Tensor.backward`` would; frees the graph.

    Frozen parameters and those that no loss depends on are left as they are. Clip gradients after
    it. Hooks on tensors run once per pass; those of ``DistributedDataParallel`` do not run.

    Args:
        losses: The losses, ``(k,)``, or a sequence of them, with a graph, before the weighting's
            own ``transform_losses``. Scalars, in a sequence or stacked, cost least.
        weighting: Any weighting. A loss weighting takes one plain backward pass of its objective,
            in which every parameter takes part, the weighting's own too: ``heads`` are weighted,
            and the arguments after it do not matter.
        shared: The parameters whose gradients are combined.
        heads: The other parameters, of one or several losses. They get the sum of the losses'
            gradients.
        features: The tensors between shared parameters and heads: all that the losses know of the
            shared parameters.
        present: Which losses have examples in this batch, ``(k,)`` bool, best on the host. Others
            take no part: they are left out of the Gram matrix and weigh 0.
        gradients: Which way the tasks' gradients are had (see ``docs/weighting.md``).
        weighted_heads: Whether the heads' gradients are weighted too, as in the published code of
            mgda, imtl and nashmtl; in that of pcgrad, graddrop, cagrad and fairgrad they are not.
            Gradient weightings have no weights for it.

    Raises:
        UserError: If the arguments do not fit each other.
    """
    if gradients not in WAYS:
        raise UserError(unknown_name_message("way to the gradients", str(gradients), WAYS))
    if not isinstance(weighting, Weighting):
        raise UserError(f"weighting is {weighting!r}, expected the result of load_weighting")
    given = Losses(losses, present)
    if isinstance(weighting, LossWeighting):
        return plain(given, weighting)
    flat = Flat(shared)
    if not any(parameter.numel() for parameter in flat.parameters):
        raise UserError("no shared parameter requires a gradient: there is nothing to weigh")
    own = Heads(heads, weighted_heads)
    shared_ids = {id(parameter) for parameter in flat.parameters}
    both = sum(id(parameter) in shared_ids for parameter in own.parameters)
    if both:
        raise UserError(f"{both} parameters are in shared and in heads, expected each in one")
    problem = Problem(given, flat, own, None if features is None else Features(features))
    given.transform(weighting.transform_losses)
    if not given.present.any():
        return Step(torch.zeros_like(given.values), None, "plain")
    if isinstance(weighting, GramWeighting):
        weights = weighting.use_cached_weights()
        if weights is not None and len(weights) == len(given.values):
            return standing(problem, weights)
    way = _way(gradients, problem, weighting)
    if way == "exact":
        return exact(problem, weighting)
    assert isinstance(weighting, GramWeighting)
    if way == "representation":
        return representation(problem, weighting)
    assert isinstance(weighting, FairGrad)
    return matrix_free(problem, weighting)


def _way(gradients: str, problem: Problem, weighting: Weighting) -> str:
    """Return ``exact``, ``matrix_free`` or ``representation``.

    Raises:
        UserError: If the way does not fit the problem or the weighting.
    """
    features = problem.features
    if gradients == "exact":
        return "exact"
    if gradients == "auto":
        if features is None or not isinstance(weighting, FairGrad):
            return "exact"
        shared = problem.flat.parameters
        if not features.separate(problem.losses, shared):
            return "exact"
        tasks = int(problem.losses.present.sum())
        passes = tasks * cost_of_pass(features.nodes(), shared, tasks)
        return "matrix_free" if _pays(weighting, passes) else "exact"
    if features is None:
        raise UserError(f"gradients={gradients!r} needs features; without, take 'exact' or 'auto'")
    if not isinstance(weighting, FairGrad) and gradients == "matrix_free":
        raise UserError(
            "gradients='matrix_free' solves the equation of alpha-fair weights: it works for "
            "fairgrad, nashmtl; take 'exact'"
        )
    if not isinstance(weighting, GramWeighting):
        raise UserError(f"gradients={gradients!r} is for weightings by Gram matrix; take 'exact'")
    if not features.separate(problem.losses, problem.flat.parameters):
        raise UserError(
            f"gradients={gradients!r}: a loss depends on shared parameters by another way than the "
            "features, one feature was made from another, or one has a hook; name all tensors that "
            "are between shared parameters and heads, none of them twice, or take 'exact'"
        )
    return gradients


def _pays(weighting: FairGrad, passes: float) -> bool:
    """Return whether matrix-free costs less than so many passes, by the last such step."""
    if passes > PRODUCT * max(weighting.products, FEWEST):
        return True
    weighting.waited += 1
    if weighting.waited < LOOK_AGAIN or passes <= PRODUCT * FEWEST:
        return False
    weighting.waited = 0
    return True
