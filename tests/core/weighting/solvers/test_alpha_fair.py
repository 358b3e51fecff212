"""The alpha-fair equation: solved where it can be, flagged where it cannot, everywhere the same."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from core.weighting import (
    AlphaFairSolution,
    GramWeighting,
    load_weighting,
    solve_alpha_fair,
    solve_alpha_fair_on_device,
)
from core.weighting.solvers.alpha_fair_device import STATUSES
from tests.support.gradients import (
    DEVICE,
    DOUBLE,
    DTYPE,
    Array,
    draw_related,
    iterate_solvable,
    iterate_unsolvable,
    to_array,
    to_tensor,
)

ALPHAS = (0.5, 1.0, 2.0, 5.0, 10.0)
TASKS = (2, 3, 11, 40, 50)
double = pytest.mark.skipif(not DOUBLE, reason="the Gram matrix's own rounding is larger")


def residual(gram: Array, weights: Array, alpha: float) -> float:
    right = weights ** (-1 / alpha)
    return float(np.abs((gram @ weights - right) / right).max())


def assert_usable(solution: AlphaFairSolution, tasks: int) -> None:
    assert solution.weights.shape == (tasks,)
    assert torch.isfinite(solution.weights).all()
    assert (solution.weights > 0).all()


@double
def test_solvable_matrices_are_solved() -> None:
    rng = np.random.default_rng(0)
    found = []
    for tasks in (*TASKS, *TASKS, *TASKS):
        for case in iterate_solvable(rng, tasks):
            gram = case.gradients @ case.gradients.T
            for alpha in ALPHAS:
                solution = solve_alpha_fair(to_tensor(gram), alpha)
                assert_usable(solution, tasks)
                exact = residual(gram, to_array(solution.weights), alpha) <= 1e-6
                assert exact == (solution.status == "solved"), (case.name, tasks, alpha)
                found.append(exact)
    assert len(found) >= 1000
    assert np.mean(found) >= 0.995


@double
@pytest.mark.parametrize("tasks", TASKS)
def test_well_posed_matrices_are_solved_to_1e_8(tasks: int) -> None:
    rng = np.random.default_rng(tasks)
    posed = (case for case in iterate_solvable(rng, tasks) if "nearly opposed" not in case.name)
    for case in posed:
        for alpha in ALPHAS:
            solution = solve_alpha_fair(case.gram, alpha)
            assert solution.status == "solved", (case.name, alpha)
            assert solution.residual <= 1e-8, (case.name, alpha)


def test_unsolvable_matrices_are_flagged() -> None:
    rng = np.random.default_rng(0)
    for tasks in TASKS:
        for case in iterate_unsolvable(rng, tasks):
            for alpha in ALPHAS:
                solution = solve_alpha_fair(case.gram, alpha)
                assert solution.status == "no_solution", (case.name, tasks, alpha)
                assert_usable(solution, tasks)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 1)])
def test_matrices_that_are_not_finite_are_flagged(wrong: float, place: tuple[int, int]) -> None:
    gram = torch.eye(3, dtype=DTYPE, device=DEVICE)
    gram[place] = gram[place[::-1]] = wrong
    solution = solve_alpha_fair(gram, 2.0)
    assert solution.status == "not_finite"
    assert solution.residual == math.inf
    assert_usable(solution, 3)


@double
@pytest.mark.parametrize("alpha", ALPHAS)
def test_scaling_the_matrix_scales_the_weights(alpha: float) -> None:
    rng = np.random.default_rng(1)
    for case in iterate_solvable(rng, 5):
        base = to_array(solve_alpha_fair(case.gram, alpha).weights)
        for scale in (1e-12, 1e-5, 1e3, 1e12):
            solution = solve_alpha_fair(case.gram * scale, alpha)
            rescaled = to_array(solution.weights) * scale ** (alpha / (alpha + 1))
            assert solution.status == "solved"
            np.testing.assert_allclose(rescaled, base, rtol=1e-6)


@double
@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0.3, 20))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_alpha_and_any_order(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    tasks = int(rng.integers(1, 8))
    gradients = draw_related(rng, tasks) * 10 ** rng.uniform(-2, 2, size=(tasks, 1))
    gram = gradients @ gradients.T
    order = rng.permutation(tasks)
    solution = solve_alpha_fair(to_tensor(gram), alpha)
    assert residual(gram, to_array(solution.weights), alpha) <= 1e-8
    permuted = solve_alpha_fair(to_tensor(gram[np.ix_(order, order)]), alpha)
    np.testing.assert_allclose(
        to_array(permuted.weights), to_array(solution.weights)[order], rtol=1e-6
    )


@pytest.mark.deviation("alpha-fair-solver")
@double
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_published_search_agrees_where_it_converges(alpha: float) -> None:
    gradients = draw_related(np.random.default_rng(2), 4) / math.sqrt(200)
    gram = gradients @ gradients.T

    def difference(w: Array) -> Array:
        found: Array = gram @ w - w ** (-1 / alpha)
        return found

    start, bounds, tight = np.full(4, 0.25), (0, np.inf), 1e-15
    search = least_squares(difference, start, bounds=bounds, xtol=tight, ftol=tight, gtol=tight)
    np.testing.assert_allclose(
        to_array(solve_alpha_fair(to_tensor(gram), alpha).weights), search.x, rtol=1e-6
    )


def test_orthogonal_gradients_have_a_closed_form() -> None:
    squares = np.array([1e-4, 1.0, 25.0])
    weights = to_array(solve_alpha_fair(to_tensor(np.diag(squares)), 2.0).weights)
    np.testing.assert_allclose(weights, squares ** (-2 / 3), rtol=1e-5)


def test_zero_gradients_leave_the_others_their_solution() -> None:
    gradients = draw_related(np.random.default_rng(3), 4)
    gradients[2] = 0
    kept = [0, 1, 3]
    solution = solve_alpha_fair(to_tensor(gradients @ gradients.T), 2.0)
    others = solve_alpha_fair(to_tensor(gradients[kept] @ gradients[kept].T), 2.0)
    assert (solution.status, others.status) == ("no_solution", "solved")
    np.testing.assert_allclose(
        to_array(solution.weights)[kept], to_array(others.weights), rtol=1e-6
    )


def test_opposed_gradients_get_equal_lengths() -> None:
    gradients = np.array([[1.0, 2.0, 2.0], [-4.0, -8.0, -8.0]])
    weights = to_array(solve_alpha_fair(to_tensor(gradients @ gradients.T), 2.0).weights)
    lengths = weights * np.linalg.norm(gradients, axis=1)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan, "2"])
def test_an_impossible_alpha_is_refused(alpha: Any) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        solve_alpha_fair(torch.eye(2), alpha)


def test_an_impossible_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        solve_alpha_fair(torch.ones(2, 3), 1.0)


@double
@pytest.mark.parametrize("tasks", [2, 3, 11, 40])
def test_the_device_version_finds_the_same(tasks: int) -> None:
    rng = np.random.default_rng(10 + tasks)
    both = (*iterate_solvable(rng, tasks), *iterate_unsolvable(rng, tasks))
    for case, alpha in zip(both, itertools.cycle(ALPHAS), strict=False):
        on_cpu = solve_alpha_fair(case.gram, alpha)
        on_device = solve_alpha_fair_on_device(case.gram, alpha)
        assert STATUSES[int(on_device.status)] == on_cpu.status, (case.name, alpha)
        np.testing.assert_allclose(
            to_array(on_device.weights), to_array(on_cpu.weights), rtol=1e-6, err_msg=case.name
        )


def test_the_device_version_flags_what_is_not_finite() -> None:
    solution = solve_alpha_fair_on_device(
        torch.full((3, 3), math.nan, dtype=DTYPE, device=DEVICE), 2.0
    )
    assert STATUSES[int(solution.status)] == "not_finite"
    np.testing.assert_allclose(to_array(solution.weights), 1 / 3, rtol=1e-6)


def test_the_device_version_never_asks_for_a_value() -> None:
    # A meta tensor has none: whatever would wait for a device raises here.
    gram = torch.empty(5, 5, dtype=DTYPE, device="meta")
    solution = solve_alpha_fair_on_device(gram, 2.0)
    assert solution.weights.shape == (5,)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_device_version_runs_in_a_graph() -> None:
    rng = np.random.default_rng(0)
    first, second = (
        torch.from_numpy(g @ g.T).cuda() for g in (draw_related(rng, 8), draw_related(rng, 8))
    )
    gram = first.clone()
    weighting = load_weighting("fairgrad", alpha=2.0).cuda()
    assert isinstance(weighting, GramWeighting)
    solve_alpha_fair_on_device(gram, 2.0)  # libraries make their handles outside of a graph
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = weighting.compute_weights(gram)
    gram.copy_(second)
    graph.replay()
    torch.testing.assert_close(captured, solve_alpha_fair(second, 2.0).weights, rtol=1e-6, atol=0)
    gram.zero_()
    graph.replay()
    assert int(weighting.flagged_steps) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("tasks", TASKS)
def test_the_kernel_finds_the_solution_of_the_host(tasks: int) -> None:
    rng = np.random.default_rng(tasks)
    both = (*iterate_solvable(rng, tasks), *iterate_unsolvable(rng, tasks))
    for case, alpha in zip(both, itertools.cycle(ALPHAS), strict=False):
        gram = torch.from_numpy(case.gradients @ case.gradients.T)
        expected = solve_alpha_fair(gram, alpha)
        found = solve_alpha_fair_on_device(gram.cuda(), alpha)
        assert STATUSES[int(found.status)] == expected.status, (case.name, alpha)
        np.testing.assert_allclose(found.weights.cpu(), expected.weights, rtol=1e-6)
