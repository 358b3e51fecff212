"""Time of the alpha-fair solver: python -m benchmarks.alpha_fair.

Ours against the published code's bounded least squares and, where cvxpy is installed, Nash-MTL's
sequence of cone programs (with ECOS, where that is installed too), alternating on the same matrices
in one process with one thread. Prints microseconds (the median over matrices of the best of three
calls), their ratio, and the largest residual of either.
"""

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares

from core.weighting import solve_alpha_fair

Matrix = NDArray[np.float64]
Solve = Callable[[], Matrix]
TASKS, ALPHAS, MATRICES, CALLS, PARAMETERS = (3, 11, 40), (1.0, 2.0, 5.0), 16, 3, 1000


def draw_gram_matrices(tasks: int) -> list[Matrix]:
    """Return Gram matrices of normal gradients; in every second, all tasks share a part."""
    rng = np.random.default_rng(0)
    grams = []
    for number in range(MATRICES):
        shared = 0.5 * (number % 2) * rng.normal(size=PARAMETERS)
        gradients = rng.normal(size=(tasks, PARAMETERS)) + shared
        grams.append(gradients @ gradients.T / PARAMETERS)
    return grams


def make_own_solver(gram: Matrix, alpha: float) -> Solve:
    tensor = torch.from_numpy(gram)
    return lambda: solve_alpha_fair(tensor, alpha).weights.numpy()


def make_published_solver(gram: Matrix, alpha: float) -> Solve:
    """Return the search of the published FairGrad code."""

    def compute_difference(w: Matrix) -> Matrix:
        return gram @ w - np.power(1 / w, 1 / alpha)

    start = np.full(len(gram), 1 / len(gram))
    return lambda: least_squares(compute_difference, start, bounds=(0, np.inf)).x


def make_cone_solver(gram: Matrix, alpha: float) -> Solve:
    """Return Nash-MTL's search, alpha = 1: up to 20 cone programs, linearized at the last solution.

    As in the published code, matrix and last solution are parameters of one program, which is made
    here, outside of the timing; cvxpy compiles it afresh for each, as it multiplies parameters.
    """
    import cvxpy as cp  # type: ignore[import-not-found,unused-ignore]  # optional

    tasks = len(gram)
    w, last = cp.Variable(tasks, nonneg=True), cp.Parameter(tasks)
    matrix, norm = cp.Parameter((tasks, tasks)), cp.Parameter(1)
    image = matrix @ w
    slope = 1 / last + (1 / (matrix @ last)) @ matrix
    products = [-cp.log(w[i] * norm) - cp.log(image[i]) <= 0 for i in range(tasks)]
    problem = cp.Problem(cp.Minimize(cp.sum(image) + slope @ (w - last) / norm), products)
    norm.value = np.array([np.linalg.norm(gram)])
    matrix.value = gram / norm.value
    solver = "ECOS" if "ECOS" in cp.installed_solvers() else None
    return partial(_solve_cone_programs, problem, w, last, solver)


def _solve_cone_programs(problem: Any, w: Any, last: Any, solver: str | None) -> Matrix:
    last.value = np.ones(w.size)
    for _ in range(20):
        problem.solve(solver=solver, warm_start=True)
        change = np.linalg.norm(w.value - last.value)
        last.value = w.value
        if change < 1e-6:
            break
    found: Matrix = last.value
    return found


def compute_residual(gram: Matrix, weights: Matrix, alpha: float) -> float:
    right = weights ** (-1 / alpha)
    return float(np.abs((gram @ weights - right) / right).max())


def time_solver(solve: Solve) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        solve()
        times.append(time.perf_counter() - start)
    return min(times) * 1e6


def compare_solvers(
    name: str, peer: Callable[[Matrix, float], Solve], tasks: int, alpha: float
) -> None:
    times, worst = [], [0.0, 0.0]
    for gram in draw_gram_matrices(tasks):
        pair = (make_own_solver(gram, alpha), peer(gram, alpha))
        times.append([time_solver(solve) for solve in pair])
        worst = [
            max(most, compute_residual(gram, solve(), alpha))
            for most, solve in zip(worst, pair, strict=True)
        ]
    one, other = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"{tasks:3d} {alpha:5g}  {name:13s} {one:8.0f} {other:9.0f} {other / one:7.1f}"
        f"   {worst[0]:.0e}   {worst[1]:.0e}",
        flush=True,
    )


def main() -> None:
    """Print a line per number of tasks, fairness and peer."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers' own
    print("  K alpha  peer            ours us   peer us   ratio   residuals: ours, peer")
    with_cones = importlib.util.find_spec("cvxpy") is not None
    for tasks in TASKS:
        for alpha in ALPHAS:
            compare_solvers("least_squares", make_published_solver, tasks, alpha)
        if with_cones:
            compare_solvers("cvxpy", make_cone_solver, tasks, 1.0)
    if not with_cones:
        print("cvxpy is not installed: Nash-MTL's cone programs are left out")


if __name__ == "__main__":
    main()
