"""Descents of weightings on the landscape of :mod:`core.toy.landscape`."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from common.errors import UserError
from core.recipe.assignments import parse_assignments
from core.recipe.method_files import ALIASES, list_methods, load_method
from core.toy.landscape import LOSS_SCALES, STARTS, Array, compute_front_distance, compute_losses
from core.weighting import (
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    Weighting,
    list_weightings,
    load_weighting,
)

# The floor of the lower half is flat: slow paths need more than the 50,000 steps of 0.001 of Liu et
# al. (FAMO, NeurIPS 2023).
STEPS, LEARNING_RATE = 8000, 0.01
MAX_FRONT_DISTANCE = 0.3  # a path that ends nearer has reached the front; half the drawn width


class Descent(NamedTuple):
    """Paths of one weighting.

    Args:
        method: The weighting with its parameters, as it was given.
        paths: The points after each step, the start first, ``(starts, steps + 1, 2)``.
        distances: Distance of each path's end from the front in the plane, ``(starts,)``.
    """

    method: str
    paths: Array
    distances: Array

    @property
    def is_on_front(self) -> NDArray[np.bool_]:
        """Whether each path ends on the drawn front, ``(starts,)``."""
        return self.distances < MAX_FRONT_DISTANCE


def parse_weighting(text: str) -> Weighting:
    """Return the weighting that a text names, with parameters: ``fairgrad:alpha=1,losses=log``.

    Raises:
        UserError: If there is no such weighting or parameter, a parameter is given twice, or a
            value is of a wrong kind or out of its range.
    """
    written, colon, rest = text.partition(":")
    name = ALIASES.get(written, written)
    # A comma before a word without "=" belongs to the value: weights=first:2,second:3.
    parts = re.split(r",(?=[^,=]*=)", rest) if colon else []
    keys = [part.partition("=")[0] for part in parts]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"--methods: {key} is given twice in '{text}'")
    try:
        parameters = parse_assignments(parts)
    except UserError:
        raise UserError(
            f"--methods: received '{text}', expected NAME or NAME:KEY=VALUE,..., such as "
            "fairgrad:alpha=1"
        ) from None
    try:
        weighting = load_weighting(name, **parameters)
        weighting.setup(["first", "second"])
    except (ValueError, TypeError) as error:
        raise UserError(f"--methods: {error}{_translate_method(name, keys)}") from None
    return weighting


def _translate_method(name: str, keys: Sequence[str]) -> str:
    """Return a hint where a name or key is that of a method's file, not of a weighting."""
    if name not in list_methods():
        return ""
    method = load_method(name)
    weighting = method.recipe.weighting
    if name in list_weightings():
        renamed = [
            f"; {value} of the method {name} is {key} here"
            for key, value in weighting.parameters.items()
            if value in keys and key != value
        ]
        return "".join(renamed)
    domains = {**method.search, **method.options}
    used = weighting.with_values({key: domain.default for key, domain in domains.items()})
    parameters = [f"{key}={value}" for key, value in used.parameters.items() if value != ""]
    written = ":".join([weighting.name, *([",".join(parameters)] if parameters else [])])
    return f"; the method {name} has the weighting {written}"


def descend_landscape(
    methods: Sequence[str],
    steps: int = STEPS,
    lr: float = LEARNING_RATE,
    seed: int = 0,
    scale: float = LOSS_SCALES[0],
    starts: Sequence[tuple[float, float]] = STARTS,
) -> list[Descent]:
    """Follow weightings from all starts with Adam.

    All paths move at once, so that each step evaluates the landscape once; they do not interact.

    Args:
        methods: Weightings, as :func:`parse_weighting` reads them.
        steps: Steps from each start.
        lr: Adam's learning rate.
        seed: Seed of the weightings that draw.
        scale: Scale of the first loss.
        starts: The points at which paths start.
    """
    weightings = [parse_weighting(method) for method in methods for _ in starts]
    x = torch.tensor(list(starts) * len(methods), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=lr)
    for weighting in weightings:
        if learned := list(weighting.parameters()):
            rate = lr if weighting.lr is None else weighting.lr
            optimizer.add_param_group({"params": learned, "lr": rate})
    paths = np.empty((len(x), steps + 1, 2))
    paths[:, 0] = x.detach().numpy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in _track_steps(steps):
            _take_step(x, weightings, optimizer, scale)
            paths[:, step + 1] = x.detach().numpy()
    by_method = paths.reshape(len(methods), len(starts), steps + 1, 2)
    return [
        Descent(method, own, compute_front_distance(own[:, -1]))
        for method, own in zip(methods, by_method, strict=True)
    ]


def _track_steps(steps: int) -> Iterable[int]:
    """Return the steps' numbers, with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(range(steps), "steps", console=console, disable=not console.is_terminal)


def _take_step(
    x: Tensor, weightings: Sequence[Weighting], optimizer: torch.optim.Optimizer, scale: float
) -> None:
    """Move each of the points, ``(n, 2)``, by its own weighting."""
    optimizer.zero_grad()
    values = compute_losses(x, scale)
    rows = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)]
    gradients, values = torch.stack(rows, dim=1), values.detach()
    cases = zip(weightings, values, gradients, strict=True)
    x.grad = torch.stack([compute_direction(*case) for case in cases])
    optimizer.step()
    if any(weighting.needs_losses_after_step for weighting in weightings):
        for weighting, after in zip(weightings, compute_losses(x.detach(), scale), strict=True):
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
    """Return a line per weighting: paths on the front, largest distance, abscissas of ends."""
    width = max(16, *(len(descent.method) for descent in descents))
    lines = [
        f"{'weighting':<{width}} {'on the front':>12} {'largest distance':>16}  x_1 at the ends"
    ]
    for descent in descents:
        ends = " ".join(f"{x:6.2f}" for x in descent.paths[:, -1, 0])
        reached = f"{descent.is_on_front.sum()} of {len(descent.distances)}"
        largest = descent.distances.max()
        lines.append(f"{descent.method:<{width}} {reached:>12} {largest:>16.2f}  {ends}")
    return "\n".join(lines)
