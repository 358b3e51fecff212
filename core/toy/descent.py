"""Descents of weightings on the landscape of :mod:`core.toy.landscape`."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from core.registry import find_components
from core.toy.landscape import STARTS, Array, compute_front_gap, compute_losses
from core.weighting import (
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    Weighting,
    load_weighting,
)

# As far as the 35,000 steps of 0.001 of Navon et al. lead, and a little farther.
STEPS, LEARNING_RATE = 4000, 0.01
MAX_FRONT_GAP = 0.01  # a path that ends nearer to the front has reached it


class Descent(NamedTuple):
    """Paths of one weighting.

    Args:
        method: Name of the weighting.
        paths: The points after each step, the start first, ``(starts, steps + 1, 2)``.
        gaps: Distance of each path's end from the front
            (:func:`core.toy.landscape.compute_front_gap`), ``(starts,)``.
    """

    method: str
    paths: Array
    gaps: Array

    @property
    def is_on_front(self) -> NDArray[np.bool_]:
        """Whether each path ends on the front, ``(starts,)``."""
        return self.gaps < MAX_FRONT_GAP


def list_weightings() -> list[str]:
    """Return the names of all weightings."""
    return sorted(find_components("core.weighting.methods", Weighting))


def descend_landscape(
    methods: Sequence[str], steps: int = STEPS, lr: float = LEARNING_RATE, seed: int = 0
) -> list[Descent]:
    """Follow weightings from all starts with Adam.

    All paths move at once, so that each step evaluates the landscape once; they do not interact.

    Args:
        methods: Names of weightings.
        steps: Steps from each start.
        lr: Adam's learning rate.
        seed: Seed of the weightings that draw.
    """
    weightings = [load_weighting(method) for method in methods for _ in STARTS]
    for weighting in weightings:
        weighting.setup(["first", "second"])
    learned = [parameter for weighting in weightings for parameter in weighting.parameters()]
    x = torch.tensor(STARTS * len(methods), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([x, *learned], lr=lr)
    paths = np.empty((len(x), steps + 1, 2))
    paths[:, 0] = x.detach().numpy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in _track_steps(steps):
            _take_step(x, weightings, optimizer)
            paths[:, step + 1] = x.detach().numpy()
    by_method = paths.reshape(len(methods), len(STARTS), steps + 1, 2)
    return [
        Descent(method, own, compute_front_gap(own[:, -1]))
        for method, own in zip(methods, by_method, strict=True)
    ]


def _track_steps(steps: int) -> Iterable[int]:
    """Return the steps' numbers, with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(range(steps), "steps", console=console, disable=not console.is_terminal)


def _take_step(
    x: Tensor, weightings: Sequence[Weighting], optimizer: torch.optim.Optimizer
) -> None:
    """Move each of the points, ``(n, 2)``, by its own weighting."""
    optimizer.zero_grad()
    values = compute_losses(x)
    rows = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)]
    gradients, values = torch.stack(rows, dim=1), values.detach()
    cases = zip(weightings, values, gradients, strict=True)
    x.grad = torch.stack([compute_direction(*case) for case in cases])
    optimizer.step()
    if any(weighting.needs_losses_after_step for weighting in weightings):
        for weighting, after in zip(weightings, compute_losses(x.detach()), strict=True):
            weighting.after_step(after)


def compute_direction(weighting: Weighting, values: Tensor, gradients: Tensor) -> Tensor:
    """Return the ``.grad`` that :func:`core.weighting.backward` would accumulate, ``(p,)``.

    Args:
        weighting: Any weighting; its own parameters get their gradients.
        values: Losses, ``(k,)``, above 0.
        gradients: Their gradients, ``(k, p)``.
    """
    leaf = values.detach().requires_grad_()
    transformed = weighting.transform_losses(leaf)
    if isinstance(weighting, LossWeighting):
        weighting.compute_objective(transformed).backward()
        assert leaf.grad is not None
        return leaf.grad @ gradients
    if transformed is not leaf:
        (slopes,) = torch.autograd.grad(transformed.sum(), leaf)
        gradients = slopes[:, None] * gradients
    if isinstance(weighting, GramWeighting):
        weights = weighting.use_cached_weights()
        if weights is None:
            weights = weighting.compute_weights(gradients @ gradients.T)
        return weights @ gradients
    assert isinstance(weighting, GradientWeighting)
    return weighting.combine_gradients(gradients)


def format_table(descents: Sequence[Descent]) -> str:
    """Return a line per weighting: paths that reach the front, largest gap, abscissas of ends."""
    lines = [f"{'weighting':<16} {'on the front':>12} {'largest gap':>12}  x_1 at the ends"]
    for descent in descents:
        ends = " ".join(f"{x:6.2f}" for x in descent.paths[:, -1, 0])
        reached = f"{descent.is_on_front.sum()} of {len(STARTS)}"
        lines.append(f"{descent.method:<16} {reached:>12} {descent.gaps.max():>12.4f}  {ends}")
    return "\n".join(lines)
