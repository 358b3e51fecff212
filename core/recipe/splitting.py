"""Whether the gradient of a batch is the mean of its parts' gradients."""

from collections.abc import Iterable

from core.objectives.base import Objective
from core.weighting.base import Weighting
from core.weighting.methods.fixed import Fixed
from core.weighting.methods.ls import LinearScalarization


def why_unsplittable(objectives: Iterable[Objective], weighting: Weighting) -> str:
    """Return why splitting a batch would change the step; empty where splitting is exact."""
    if not isinstance(weighting, Fixed | LinearScalarization) or weighting.loss_alpha:
        return "the weighting depends on the losses of the whole batch"
    for objective in objectives:
        if not objective.is_example_mean:
            return f"{type(objective).__name__} is not a mean over examples"
    return ""
