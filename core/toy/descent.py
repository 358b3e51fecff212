"""``python -m core.toy``: the weightings on a landscape of two objectives, drawn and judged.

The landscape of Liu, Liu, Jin, Stone & Liu, Conflict-Averse Gradient Descent for Multi-task
Learning, NeurIPS 2021 (appendix), with the first objective scaled by 0.1 as in Navon et al.,
Multi-Task Learning as a Bargaining Game, ICML 2022, whose starting points these are. With
``t = tanh(x_2)``, ``above = max(tanh(x_2 / 2), 0)`` and ``below = max(tanh(-x_2 / 2), 0)``::

    valley_1 = log max(|(-x_1 - 7) / 2 + t|, 5e-6) + 6
    valley_2 = log max(|(-x_1 + 3) / 2 - t + 2|, 5e-6) + 6
    bowl_1 = ((x_1 - 7)^2 + (x_2 + 8)^2 / 10) / 10 - 20
    bowl_2 = ((x_1 + 7)^2 + (x_2 + 8)^2 / 10) / 10 - 20
    f_i = above valley_i + below bowl_i        L_1 = 0.1 (f_1 + 21)        L_2 = f_2 + 21

Above lie two steep valleys, one per objective, in which a plain sum of losses is caught; below, the
Pareto front between the minima of two bowls. The 21, which moves no minimum, keeps the losses
positive: some weightings take their logarithms.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.optimize import minimize
from torch import Tensor

from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from core.registry import components
from core.weighting import (
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    Weighting,
    load_weighting,
)

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
SCALES, SHIFT, LOWEST = (0.1, 1.0), 21.0, 5e-6
# As far as the 35,000 steps of 0.001 of Navon et al. lead, and a little farther.
STEPS, LR = 4000, 0.01
NEAR = 0.01  # of the front's extent: what counts as having reached it

Array = NDArray[np.float64]


def losses(x: Tensor) -> Tensor:
    """Return the two losses, ``(..., 2)``, at points ``(..., 2)``."""
    x1, x2 = x.unbind(-1)
    t = x2.tanh()
    first = ((-x1 - 7) / 2 + t).abs().clamp(min=LOWEST).log() + 6
    second = ((-x1 + 3) / 2 - t + 2).abs().clamp(min=LOWEST).log() + 6
    depth = (x2 + 8).square() / 10
    bowls = [((x1 - side).square() + depth) / 10 - 20 for side in (7, -7)]
    above, below = (x2 / 2).tanh().clamp(min=0), (-x2 / 2).tanh().clamp(min=0)
    found = [
        scale * (above * valley + below * bowl + SHIFT)
        for scale, valley, bowl in zip(SCALES, (first, second), bowls, strict=True)
    ]
    return torch.stack(found, dim=-1)


@cache
def pareto_front(points: int = 201) -> Array:
    """Return the Pareto front's points, ``(points, 2)``, from the one end to the other.

    There the losses' gradients oppose each other: at the abscissa ``x_1`` between the bowls'
    centres, the ordinate is where a weighted sum is least.
    """
    found, x = [], np.array([7.0, -8.4])
    for position in np.linspace(0, 1, points):
        share = np.array([1 - position, position]) / SCALES
        x = minimize(_weighted, x, args=(share,), jac=True, method="L-BFGS-B").x
        found.append(x)
    return np.array(found)


def _weighted(x: Array, share: Array) -> tuple[float, Array]:
    point = torch.tensor(x, requires_grad=True)
    value = (losses(point) * torch.from_numpy(share)).sum()
    value.backward()
    assert point.grad is not None
    return value.item(), point.grad.numpy()


def gap(x: Array) -> Array:
    """Return by how much both losses at points ``(..., 2)`` could fall at once, ``(...)``.

    In shares of the losses' extents along the front; 0 on the front.
    """
    front = losses(torch.from_numpy(pareto_front())).numpy()
    extent = front.max(0) - front.min(0)
    here = losses(torch.from_numpy(x)).numpy()[..., None, :]
    falls: Array = ((here - front) / extent).min(-1).max(-1)
    return falls.clip(0)


class Descent(NamedTuple):
    """What one weighting does.

    Args:
        method: Its name.
        paths: The points after each step, the start first, ``(starts, steps + 1, 2)``.
        gaps: How far from the front each path ends (:func:`gap`), ``(starts,)``.
    """

    method: str
    paths: Array
    gaps: Array

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Which paths end on the front, ``(starts,)``."""
        return self.gaps < NEAR


def descend(
    methods: Sequence[str], steps: int = STEPS, lr: float = LR, seed: int = 0
) -> list[Descent]:
    """Follow weightings from all starts with Adam.

    All paths move at once, so that each step evaluates the landscape once; they do not meet.

    Args:
        methods: Names of :mod:`core.weighting`.
        steps: Steps from each start.
        lr: Adam's learning rate.
        seed: Of the weightings that draw.
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
        for step in _shown(steps):
            _step(x, weightings, optimizer)
            paths[:, step + 1] = x.detach().numpy()
    by_method = paths.reshape(len(methods), len(STARTS), steps + 1, 2)
    return [Descent(*pair, gap(pair[1][:, -1])) for pair in zip(methods, by_method, strict=True)]


def _shown(steps: int) -> Iterable[int]:
    """Return the steps' numbers, with a bar on a terminal."""
    console = Console(stderr=True)
    return track(range(steps), "steps", console=console, disable=not console.is_terminal)


def _step(x: Tensor, weightings: Sequence[Weighting], optimizer: torch.optim.Optimizer) -> None:
    """Move each of the points, ``(n, 2)``, by its own weighting."""
    optimizer.zero_grad()
    values = losses(x)
    rows = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)]
    gradients, values = torch.stack(rows, dim=1), values.detach()
    cases = zip(weightings, values, gradients, strict=True)
    x.grad = torch.stack([direction(*case) for case in cases])
    optimizer.step()
    if any(weighting.needs_losses_after_step for weighting in weightings):
        for weighting, after in zip(weightings, losses(x.detach()), strict=True):
            weighting.after_step(after)


def direction(weighting: Weighting, values: Tensor, gradients: Tensor) -> Tensor:
    """Return what :func:`core.weighting.backward` leaves in ``.grad``, ``(p,)``.

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
        standing = weighting.use_cached_weights()
        found = weighting.compute_weights(gradients @ gradients.T) if standing is None else standing
        return found @ gradients
    assert isinstance(weighting, GradientWeighting)
    return weighting.combine_gradients(gradients)


def table(descents: Sequence[Descent]) -> str:
    """Return a line per weighting: how many paths reach the front, the farthest end, where."""
    lines = [f"{'weighting':<16} {'on the front':>12} {'largest gap':>12}  x_1 at the ends"]
    for found in descents:
        ends = " ".join(f"{x:6.2f}" for x in found.paths[:, -1, 0])
        reached = f"{found.reached.sum()} of {len(STARTS)}"
        lines.append(f"{found.method:<16} {reached:>12} {found.gaps.max():>12.4f}  {ends}")
    return "\n".join(lines)


def names() -> list[str]:
    """Return the names of all weightings of two losses."""
    return sorted(components("core.weighting.methods", Weighting))


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow, judge and draw; return 0, or 2 for a user's mistake."""
    parser = Parser(
        prog="python -m core.toy",
        description="Draw the paths of weightings on a landscape of two objectives.",
        epilog="example: python -m core.toy --methods ls cagrad nashmtl fairgrad --out toy.png",
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("toy.png"), help="the figure, .png or .svg (toy.png)")
    add("--methods", nargs="+", metavar="NAME", default=names(), help="weightings (all)")
    add("--steps", type=int, default=STEPS, help=f"steps from each start ({STEPS})")
    args = parser.parse_args(arguments)
    try:
        _check(args.methods, args.out, args.steps)
        found = descend(args.methods, args.steps)
        print(table(found))
        from core.toy.figure import draw  # matplotlib takes a second

        draw(found, args.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"drawn: {args.out}")
    return 0


def _check(methods: Sequence[str], out: Path, steps: int) -> None:
    for method in methods:
        if method not in names():
            raise UserError(unknown_name_message("weighting", method, names()))
    if out.suffix not in (".png", ".svg"):
        raise UserError(f"--out: received '{out}', expected a name that ends in .png or .svg")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out: the folder '{out.parent}' does not exist")
    if steps < 1:
        raise UserError(f"--steps: received {steps}, expected at least 1")
