"""Gradients for the tests of weightings: by construction, with or without a common descent.

Device and type of the suite come from EVENHAND_TEST_DEVICE and EVENHAND_TEST_DTYPE.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

DEVICE = torch.device(os.environ.get("EVENHAND_TEST_DEVICE", "cpu"))
DTYPE: torch.dtype = getattr(torch, os.environ.get("EVENHAND_TEST_DTYPE", "float64"))
DOUBLE = torch.finfo(DTYPE).bits == 64
TOLERANCE = 1e-5 if DOUBLE else 5e-3  # of weights against references, relative to the largest


@dataclass(frozen=True)
class Case:
    """Gradients, ``(k, p)``, and whether 0 is in their hull."""

    name: str
    gradients: Array
    opposed: bool

    def __str__(self) -> str:
        return f"{self.name}-{len(self.gradients)}"

    @property
    def gram(self) -> Tensor:
        return to_tensor(self.gradients @ self.gradients.T)


def to_tensor(array: Array) -> Tensor:
    return torch.from_numpy(array).to(DEVICE, DTYPE)


def to_array(values: Tensor) -> Array:
    found: Array = values.detach().to("cpu", torch.float64).numpy()
    return found


def draw_related(rng: np.random.Generator, tasks: int, parameters: int = 200) -> Array:
    """Gradients that share a part: no hull of them holds 0."""
    shared = 0.5 * rng.normal(size=parameters)
    return rng.normal(size=(tasks, parameters)) + shared


def draw_agreeing(rng: np.random.Generator, tasks: int, rank: int, least: float) -> Array:
    """Gradients of a low rank, all with an inner product of at least ``least`` with one vector."""
    common = rng.normal(size=rank)
    common /= np.linalg.norm(common)
    found = rng.normal(size=(tasks, rank))
    against = np.minimum(found @ common, 0)
    found += np.outer(least - 2 * against, common)
    return found @ rng.normal(size=(rank, 60))


def draw_balanced(rng: np.random.Generator, tasks: int, least: float) -> Array:
    """Gradients that sum to ``tasks * least`` times a unit vector which all of them have in common.

    For small ``least`` each meets the sum of the others head on.
    """
    found = rng.normal(size=(tasks, 60))
    common = rng.normal(size=60)
    common /= np.linalg.norm(common)
    found -= found.mean(0)
    found -= np.outer(found @ common, common)
    return found + least * common


def iterate_solvable(rng: np.random.Generator, tasks: int) -> Iterator[Case]:
    """Cases with a common descent direction."""
    yield Case("related", draw_related(rng, tasks), False)
    lengths = 10.0 ** rng.uniform(-3, 3, size=(tasks, 1))
    yield Case("lengths 1e-3 to 1e3", draw_related(rng, tasks) * lengths, False)
    lengths = 10.0 ** rng.uniform(-5, 5, size=(tasks, 1))
    yield Case("lengths 1e-5 to 1e5", draw_related(rng, tasks) * lengths, False)
    yield Case("scale 1e-6", draw_related(rng, tasks) * 1e-6, False)
    yield Case("scale 1e6", draw_related(rng, tasks) * 1e6, False)
    copies = draw_related(rng, tasks)
    copies[tasks // 2 :] = copies[: tasks - tasks // 2]
    yield Case("duplicates", copies, False)
    near = draw_related(rng, tasks)
    near[1] = near[0] + 1e-7 * rng.normal(size=200)
    yield Case("nearly equal", near, False)
    for angle in (1e-1, 1e-2, 3e-3):
        near = draw_related(rng, tasks)
        near[1] = -rng.uniform(0.3, 3) * near[0] + angle * rng.normal(size=200)
        yield Case(f"nearly opposed by {angle:g}", near, False)
    yield Case("low rank", draw_agreeing(rng, tasks, max(2, tasks // 3), 0.1), False)
    yield Case("rank 1", draw_agreeing(rng, tasks, 1, 0.1), False)
    for least in (1.0, 0.1):
        yield Case(f"conflicting, {least:g} in common", draw_balanced(rng, tasks, least), False)


def iterate_unsolvable(rng: np.random.Generator, tasks: int) -> Iterator[Case]:
    """Cases with 0 in the hull."""
    opposed = draw_related(rng, tasks)
    opposed[1] = -rng.uniform(0.1, 10) * opposed[0]
    yield Case("exactly opposed", opposed, True)
    meeting = rng.normal(size=(tasks, 60))
    shares = rng.uniform(0.1, 1, size=tasks - 1)
    meeting[-1] = -shares @ meeting[:-1]
    yield Case("weighted sum is 0", meeting, True)
    around = np.concatenate([rng.normal(size=(tasks, 2)), np.zeros((tasks, 3))], axis=1)
    around[-1] = -around[:-1].sum(0)
    yield Case("around 0 in a plane", around, True)
    zero = draw_related(rng, tasks)
    zero[-1] = 0
    yield Case("a zero gradient", zero, True)
    yield Case("all zero", np.zeros((tasks, 4)), True)


def list_cases(seed: int = 0, sizes: tuple[int, ...] = (2, 3, 11)) -> list[Case]:
    """Cases of both kinds for some numbers of tasks."""
    rng = np.random.default_rng(seed)
    return [
        case
        for k in sizes
        for kind in (iterate_solvable, iterate_unsolvable)
        for case in kind(rng, k)
    ]
