"""Gram weightings against slow references that are obviously right, in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, minimize, nnls

from core.weighting import GramWeighting, load_weighting, solve_alpha_fair
from core.weighting.base import compute_inverse_norm_weights
from core.weighting.methods.mgda import MGDA
from core.weighting.solvers.active_set import find_min_norm_weights
from tests.support.gradients import (
    DEVICE,
    DOUBLE,
    TOLERANCE,
    Array,
    Case,
    draw_related,
    iterate_solvable,
    list_cases,
    to_array,
    to_tensor,
)

CASES = [case for case in list_cases() if not np.allclose(case.gradients, 0)]
LARGE = list(iterate_solvable(np.random.default_rng(4), 40))


def weights(name: str, gradients: Array, **parameters: float | str | bool) -> Array:
    weighting = load_weighting(name, **parameters)
    assert isinstance(weighting, GramWeighting)
    return to_array(weighting.to(DEVICE).compute_weights(to_tensor(gradients @ gradients.T)))


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def gradients_of(seed: int) -> Array:
    """Well-conditioned gradients, some of which conflict."""
    rng = np.random.default_rng(seed)
    tasks = 2 + seed % 4
    return 0.1 * rng.normal(size=(tasks, 12)) * rng.uniform(0.5, 2, size=(tasks, 1))


def on_simplex(objective: Callable[[Array], float], tasks: int) -> Array:
    found: Array = minimize(
        objective,
        np.full(tasks, 1 / tasks),
        bounds=[(0.0, 1.0)] * tasks,
        constraints=LinearConstraint(np.ones(tasks), 1, 1),
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 1000},
    ).x
    return found


def shortest(gradients: Array) -> Array:
    """The shortest vector of the hull by non-negative least squares on the gradients."""
    size = np.abs(gradients).max()
    system = np.vstack([gradients.T / size, np.ones(len(gradients))])
    found = nnls(system, np.append(np.zeros(gradients.shape[1]), 1.0), maxiter=10_000)[0]
    shares: Array = found / found.sum()
    return shares


@pytest.mark.parametrize("seed", range(12))
def test_mgda_is_the_shortest_vector(seed: int) -> None:
    gradients = gradients_of(seed)
    close(weights("mgda", gradients), shortest(gradients))
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    close(weights("mgda", gradients, normalization="norm"), shortest(units))


def test_the_active_set_is_at_the_minimum_for_hard_gradients() -> None:
    rng = np.random.default_rng(0)
    for tasks in (2, 3, 11, 40):
        for case in iterate_solvable(rng, tasks):
            gradients = case.gradients
            found = np.linalg.norm(find_min_norm_weights(gradients @ gradients.T) @ gradients)
            reference = np.linalg.norm(shortest(gradients) @ gradients)
            # Both round: 1e-16 of a square is 1e-8 of a length.
            slack = 1e-8 * np.linalg.norm(gradients, axis=1).min()
            assert found <= reference * (1 + 1e-9) + slack, (case.name, tasks)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("c", [0.0, 0.2, 0.4, 0.9])
def test_cagrad_minimizes_its_dual(seed: int, c: float) -> None:
    gradients = gradients_of(seed)
    mean = gradients.mean(0)
    length = float(np.linalg.norm(mean))

    def dual(w: Array) -> float:
        step = w @ gradients / length
        return float(step @ mean / length + c * np.linalg.norm(step))

    towards = on_simplex(dual, len(gradients)) @ gradients
    expected = mean + c * length / np.linalg.norm(towards) * towards
    for rescale, divisor in enumerate((1, 1 + c**2, 1 + c)):
        found = weights("cagrad", gradients, c=c, rescale=rescale) @ gradients
        # The search's own accuracy is the root of that of its objective.
        np.testing.assert_allclose(found, expected / divisor, atol=max(2e-5, TOLERANCE) * length)


@pytest.mark.skipif(not DOUBLE, reason="a duality gap shows rounding, not the weights' error")
@pytest.mark.parametrize("case", [*CASES, *LARGE], ids=str)
def test_cagrad_leaves_no_duality_gap(case: Case) -> None:
    gradients, c = case.gradients, 0.4
    mean = gradients.mean(0)
    length = np.linalg.norm(mean)
    found = weights("cagrad", gradients, c=c, rescale=0)
    direction = found @ gradients
    lengths = np.linalg.norm(gradients, axis=1)
    assert np.linalg.norm(direction - mean) <= c * length * (1 + 1e-6) + 1e-12 * lengths.max()
    served = lengths > 0
    worst = (gradients[served] @ direction).min(initial=np.inf)
    shares = found - 1 / len(found)
    if shares.sum() > 1e-12:  # otherwise the direction is g_0, or 0 is in the hull
        towards = shares / shares.sum() @ gradients
        best = towards @ mean + c * length * np.linalg.norm(towards)
        assert best - worst <= 1e-6 * max(length**2, abs(worst))


def test_cagrad_at_a_stationary_point_stays_in_its_ball() -> None:
    gradients = draw_related(np.random.default_rng(0), 3)
    gradients[1] = -gradients[0]
    mean = gradients.mean(0)
    found = weights("cagrad", gradients, c=0.4, rescale=0) @ gradients
    assert np.linalg.norm(found - mean) <= 0.4 * np.linalg.norm(mean) * (1 + 1e-4)
    # No direction serves both opposed tasks: the best for the worse one is to serve neither.
    assert (gradients @ found).min() >= -1e-3 * np.linalg.norm(mean) ** 2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_fairgrad_minimizes_its_convex_function(seed: int, alpha: float) -> None:
    gradients = draw_related(np.random.default_rng(seed), 2 + seed % 4, 20)
    gram = gradients @ gradients.T
    gap = 1 - 1 / alpha

    def function(u: Array) -> float:
        w = np.exp(u)
        utility = u if gap == 0 else w**gap / gap
        return float(0.5 * w @ gram @ w - utility.sum())

    def slope(u: Array) -> Array:
        w = np.exp(u)
        found: Array = w * (gram @ w) - w**gap
        return found

    start = -alpha / (1 + alpha) * np.log(gram.diagonal())
    found = minimize(function, start, jac=slope, method="BFGS", options={"gtol": 1e-11})
    close(weights("fairgrad", gradients, alpha=alpha), np.exp(found.x))


def test_nashmtl_is_fairgrad_at_alpha_one() -> None:
    gradients = gradients_of(3)
    found = weights("nashmtl", gradients)
    close(found, weights("fairgrad", gradients, alpha=1.0))
    assert np.linalg.norm(found @ gradients) == pytest.approx(math.sqrt(len(found)), rel=1e-3)


def test_nashmtl_keeps_its_weights_between_updates() -> None:
    weighting = load_weighting("nashmtl", update_interval=3).to(DEVICE)
    assert isinstance(weighting, GramWeighting)
    asked = []
    for seed in range(7):
        gradients = draw_related(np.random.default_rng(seed), 3)
        standing = weighting.use_cached_weights()
        asked.append(standing is None)
        if standing is None:
            last = weighting.compute_weights(to_tensor(gradients @ gradients.T))
        else:
            torch.testing.assert_close(standing, last)
    assert asked == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("seed", range(12))
def test_upgrad_projects_each_gradient(seed: int) -> None:
    gradients = gradients_of(seed)
    tasks = len(gradients)
    expected = np.ones(tasks)
    for gradient in gradients:
        expected += nnls(gradients.T, -gradient, maxiter=10_000)[0]
    close(weights("upgrad", gradients), expected / tasks)


@pytest.mark.parametrize("seed", range(12))
def test_imtl_is_the_papers_closed_form(seed: int) -> None:
    gradients = gradients_of(seed)
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    differences, unit_differences = gradients[0] - gradients[1:], units[0] - units[1:]
    system = differences @ unit_differences.T
    others = gradients[0] @ unit_differences.T @ np.linalg.inv(system)
    close(weights("imtl", gradients), np.append(1 - others.sum(), others))


def test_imtl_shares_between_equal_gradients_and_flags_opposed_ones() -> None:
    gradients = draw_related(np.random.default_rng(0), 3)
    gradients[2] = gradients[0]
    found = weights("imtl", gradients)
    assert found[0] == pytest.approx(found[2])
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    projections = units @ (found @ gradients)
    np.testing.assert_allclose(projections, projections[0], rtol=1e-3)
    gradients[1] = -2 * gradients[0]
    weighting = load_weighting("imtl").to(DEVICE)
    assert isinstance(weighting, GramWeighting)
    gram = to_tensor(gradients @ gradients.T)
    torch.testing.assert_close(weighting.compute_weights(gram), compute_inverse_norm_weights(gram))
    assert int(weighting.flagged_steps) == 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_aligned_mtl_equalizes_singular_values(seed: int, scale: str) -> None:
    gradients = gradients_of(seed)
    left, values, right = np.linalg.svd(gradients, full_matrices=False)
    lower_median = np.sort(values)[(len(values) - 1) // 2]
    sigma = {"min": values.min(), "median": lower_median, "rmse": np.sqrt(np.mean(values**2))}
    expected = sigma[scale] * (left @ right).sum(0)
    found = weights("aligned_mtl", gradients, scale=scale) @ gradients
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * float(np.linalg.norm(expected)))


def test_aligned_mtl_takes_no_rounding_for_a_component() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        gradients = draw_related(rng, 2)
        gradients[1] = -0.7 * gradients[0]
        found = np.linalg.norm(weights("aligned_mtl", gradients) @ gradients)
        # One component, as long as both gradients together; each row's share of it is 1 and -0.7.
        assert found == pytest.approx(0.3 * np.linalg.norm(gradients[0]), rel=1e-3)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("strength", [0.0, 0.3, 5.0])
def test_sdmgrad_minimizes_its_objective(seed: int, strength: float) -> None:
    gradients = gradients_of(seed)
    pulled = gradients + strength * gradients.mean(0)
    expected = (shortest(pulled) + strength / len(gradients)) / (1 + strength)
    close(weights("sdmgrad", gradients, strength=strength), expected)


@pytest.mark.deviation("sdmgrad")
def test_sdmgrad_takes_the_published_steps() -> None:
    weighting = load_weighting("sdmgrad", iterations=20).to(DEVICE)
    assert isinstance(weighting, GramWeighting)
    w = np.full(3, 1 / 3)
    for seed in range(3):
        gradients = draw_related(np.random.default_rng(seed), 3)
        gram = gradients @ gradients.T
        gram /= np.mean(np.sqrt(gram.diagonal())) ** 2
        velocity = np.zeros(3)
        for _ in range(20):
            velocity = 0.5 * velocity + gram @ w + 0.3 * gram.mean(1)
            w = on_simplex_nearest(w - 10 * velocity)
        found = to_array(weighting.compute_weights(to_tensor(gradients @ gradients.T)))
        np.testing.assert_allclose(found, (w + 0.1) / 1.3, atol=1e-5 if DOUBLE else 1e-2)


def on_simplex_nearest(point: Array) -> Array:
    """Bisect for the shift under which the positive parts sum to 1."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        shift = (low + high) / 2
        low, high = (shift, high) if np.maximum(point - shift, 0).sum() > 1 else (low, shift)
    found: Array = np.maximum(point - high, 0)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_pcgrad_projects_in_the_drawn_order(seed: int) -> None:
    gradients = gradients_of(seed)
    tasks = len(gradients)
    torch.manual_seed(seed)
    order = torch.rand(tasks, tasks, device=DEVICE).argsort(dim=1).tolist()
    expected = np.zeros(gradients.shape[1])
    for task in range(tasks):
        projected = gradients[task].copy()
        for other in order[task]:
            inner = projected @ gradients[other]
            if other != task and inner < 0:
                projected -= inner / (gradients[other] @ gradients[other]) * gradients[other]
        expected += projected
    torch.manual_seed(seed)
    found = weights("pcgrad", gradients) @ gradients
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * float(np.linalg.norm(expected)))


def test_the_solver_is_what_fairgrad_returns() -> None:
    gram = to_tensor(gradients_of(1) @ gradients_of(1).T)
    weighting = load_weighting("fairgrad", alpha=3.0).to(DEVICE)
    assert isinstance(weighting, GramWeighting)
    torch.testing.assert_close(
        weighting.compute_weights(gram), solve_alpha_fair(gram, 3.0).weights, rtol=1e-6, atol=0
    )


def test_mgda_keeps_the_losses_of_each_step_in_one_place() -> None:
    weighting = load_weighting("mgda", normalization="loss")
    assert isinstance(weighting, MGDA)
    weighting.setup(["a", "b"])
    weighting.transform_losses(torch.tensor([1.0, 2.0]))
    place = weighting._losses
    weighting.transform_losses(torch.tensor([3.0, 4.0], requires_grad=True))
    assert weighting._losses is place  # where a CUDA graph writes, whichever was captured last
    assert place.tolist() == [3.0, 4.0]
    assert not place.requires_grad
