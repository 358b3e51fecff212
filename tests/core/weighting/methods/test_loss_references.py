"""Loss and gradient weightings against their formulas, written out step by step."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.weighting import GradientWeighting, LossWeighting, backward, load_weighting
from core.weighting.loss_transforms import compute_alpha_fair_loss, parse_loss_alpha
from core.weighting.methods.moco import MoCo
from tests.support.gradients import DEVICE, DTYPE, TOLERANCE, Array, to_array, to_tensor

NAMES = ["a", "b", "c"]
LOSSES = np.random.default_rng(0).uniform(0.2, 3, size=(80, 3))


def bound(name: str, **parameters: float | str) -> LossWeighting:
    weighting = load_weighting(name, **parameters)
    assert isinstance(weighting, LossWeighting)
    weighting.setup(NAMES)
    return weighting.to(DEVICE)


def close(found: Tensor, expected: Array) -> None:
    np.testing.assert_allclose(to_array(found), expected, rtol=TOLERANCE, atol=1e-7)


def softmax(values: Array) -> Array:
    raised = np.exp(values - values.max())
    shares: Array = raised / raised.sum()
    return shares


def test_ls_si_and_alpha_fair_losses() -> None:
    losses = to_tensor(LOSSES[0])
    for name, parameters, expected in (
        ("ls", {}, np.ones(3)),
        ("ls", {"losses": "log"}, 1 / LOSSES[0]),
        ("si", {}, 1 / LOSSES[0]),
        ("alpha_fair_loss", {"alpha": 2.0}, LOSSES[0] ** -2),
        ("ls", {"losses": 0.5}, LOSSES[0] ** -0.5),
    ):
        weighting = bound(name, **parameters)
        held = losses.clone().requires_grad_()
        weighting.compute_objective(weighting.transform_losses(held)).backward()
        assert held.grad is not None
        close(held.grad, expected)


def test_rlw_draws_from_the_global_generator() -> None:
    torch.manual_seed(3)
    expected = softmax(to_array(torch.randn(3, dtype=DTYPE, device=DEVICE)))
    torch.manual_seed(3)
    close(bound("rlw").compute_weights(to_tensor(LOSSES[0])), expected)


def test_dwa_compares_the_last_two_epochs() -> None:
    weighting = bound("dwa", temperature=2.0)
    epochs = LOSSES[:12].reshape(4, 3, 3)
    for number, steps in enumerate(epochs):
        expected = np.ones(3)
        if number >= 2:
            ratio = epochs[number - 1].mean(0) / epochs[number - 2].mean(0)
            expected = 3 * softmax(ratio / 2.0)
        for losses in steps:
            close(weighting.compute_weights(to_tensor(losses)), expected)
        weighting.on_epoch_end()


@pytest.mark.deviation("dwa-window")
def test_dwa_with_the_published_windows_of_steps() -> None:
    window = 5
    weighting = bound("dwa", window=window)
    costs, weights = np.ones((2 * window, 3)), np.ones(3)
    for step, losses in enumerate(LOSSES[:30]):
        costs = np.concatenate([costs[1:], losses[None]])
        if step > window:
            ratio = costs[window:].mean(0) / costs[:window].mean(0)
            weights = 3 * np.exp(ratio / 2) / np.exp(ratio / 2).sum()
        close(weighting.compute_weights(to_tensor(losses)), weights)


def test_uw_learns_with_the_optimizer() -> None:
    weighting = bound("uw")
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.1)
    s = np.zeros(3)
    for losses in LOSSES[:10]:
        close(weighting.compute_weights(to_tensor(losses)), np.exp(-s) / 2)
        optimizer.zero_grad()
        objective = weighting.compute_objective(to_tensor(losses))
        close(objective, np.asarray(0.5 * (np.exp(-s) * losses + s).sum()))
        objective.backward()
        optimizer.step()
        s = s - 0.1 * 0.5 * (1 - np.exp(-s) * losses)


def test_uw_must_be_bound_before_its_optimizer_is_made() -> None:
    weighting = load_weighting("uw")
    assert isinstance(weighting, LossWeighting)
    with pytest.raises(ValueError, match="call setup"):
        weighting.compute_weights(torch.ones(3))


def test_famo_follows_the_published_updates() -> None:
    weighting = bound("famo", gamma=0.01, step_size=0.025)
    logits = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = torch.optim.Adam([logits], lr=0.025, weight_decay=0.01)
    for step in range(20):
        before, after = torch.from_numpy(LOSSES[step] + 1e-8), torch.from_numpy(LOSSES[step + 1])
        shares = logits.softmax(0)
        scaled = (shares / before).detach()
        close(weighting.compute_weights(to_tensor(LOSSES[step])), to_array(scaled / scaled.sum()))
        weighting.after_step(to_tensor(LOSSES[step + 1]))
        fall = before.log() - (after + 1e-8).log()
        (logits.grad,) = torch.autograd.grad(shares, logits, fall)
        adam.step()


def test_famo_leaves_absent_losses_out() -> None:
    weighting = bound("famo")
    weights = weighting.compute_weights(to_tensor(np.array([1.0, 0.0, 2.0])))
    close(weights, np.array([2 / 3, 0, 1 / 3]))
    weighting.after_step(to_tensor(np.array([0.5, 1.0, 2.0])))
    assert torch.isfinite(weighting.compute_weights(to_tensor(LOSSES[0]))).all()


@pytest.mark.deviation("dro-logarithms")
def test_dro_ascends_by_exponentiated_gradients() -> None:
    weighting = bound("dro", step_size=0.1)
    q = np.full(3, 1 / 3)
    for losses in LOSSES[:20]:
        q = q * np.exp(0.1 * losses)
        q /= q.sum()
        close(weighting.compute_weights(to_tensor(losses)), q)


@pytest.mark.deviation("end-task-weight")
def test_fixed_weights_go_by_name() -> None:
    close(
        load_fixed({"c": 0.5}).compute_weights(to_tensor(LOSSES[0])),
        np.array([1, 1, 0.5]),
    )
    with pytest.raises(ValueError, match="no losses"):
        load_fixed({"d": 0.5})


def test_fixed_weights_need_names() -> None:
    weighting = load_weighting("fixed", weights={"c": 0.5})
    assert isinstance(weighting, LossWeighting)
    with pytest.raises(ValueError, match="call setup"):
        weighting.compute_weights(torch.ones(1))


def load_fixed(weights: dict[str, float]) -> LossWeighting:
    weighting = load_weighting("fixed", weights=weights)
    assert isinstance(weighting, LossWeighting)
    weighting.setup(NAMES)
    return weighting.to(DEVICE)


@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
def test_graddrop_keeps_the_drawn_sign(leak: float) -> None:
    gradients = np.random.default_rng(0).normal(size=(4, 500))
    torch.manual_seed(1)
    draws = to_array(torch.rand(500, dtype=DTYPE, device=DEVICE))
    share = 0.5 * (1 + gradients.sum(0) / np.abs(gradients).sum(0))
    mask = np.where(share > draws, gradients > 0, gradients < 0)
    expected = ((leak + (1 - leak) * mask) * gradients).sum(0)
    torch.manual_seed(1)
    weighting = load_weighting("graddrop", leak=leak)
    assert isinstance(weighting, GradientWeighting)
    np.testing.assert_allclose(
        to_array(weighting.combine_gradients(to_tensor(gradients))), expected, atol=10 * TOLERANCE
    )


def test_moco_tracks_gradients_and_weights() -> None:
    weighting = load_weighting("moco", beta=0.5, gamma=0.1, rho=0.02).to(DEVICE)
    assert isinstance(weighting, GradientWeighting)
    tracked, w = np.zeros((3, 20)), np.full(3, 1 / 3)
    rng = np.random.default_rng(0)
    for step in range(1, 8):
        gradients = rng.normal(size=(3, 20)) * np.array([[0.3], [0.5], [1.0]])
        tracked = tracked - 0.5 / np.sqrt(step) * (tracked - gradients)
        moved = w - 0.1 / np.sqrt(step) * (tracked @ tracked.T + 0.02 * np.eye(3)) @ w
        w = nearest_on_simplex(moved)
        np.testing.assert_allclose(
            to_array(weighting.combine_gradients(to_tensor(gradients))), w @ tracked, atol=TOLERANCE
        )


def test_moco_knows_which_task_is_missing() -> None:
    # A task that is missing at first is one whose gradients were 0 so far.
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(3, 20)), rng.normal(size=(3, 20))
    found = []
    for missing in (False, True):
        weighting = MoCo().to(DEVICE)
        if missing:
            weighting.combine_gradients(to_tensor(first[[0, 2]]), torch.tensor([True, False, True]))
        else:
            weighting.combine_gradients(to_tensor(first * np.array([[1.0], [0.0], [1.0]])))
        found.append(to_array(weighting.combine_gradients(to_tensor(second))))
        before = to_array(weighting.tracked)
        weighting.combine_gradients(to_tensor(second[:2]), torch.tensor([False, True, True]))
        share = weighting.beta * float(weighting.steps) ** -weighting.decay
        expected = np.stack([before[0], *(before[1:] + share * (second[:2] - before[1:]))])
        np.testing.assert_allclose(to_array(weighting.tracked), expected, atol=TOLERANCE)
    np.testing.assert_allclose(found[0], found[1], atol=TOLERANCE)


def nearest_on_simplex(point: Array) -> Array:
    """Drop the lowest entries one by one until the shift leaves the rest positive."""
    kept = np.ones(len(point), dtype=bool)
    while True:
        shift = (point[kept].sum() - 1) / kept.sum()
        if (point[kept] > shift).all():
            return np.where(kept, point - shift, 0)
        kept &= point > shift


def test_the_transform_is_the_antiderivative_of_a_power() -> None:
    losses = to_tensor(LOSSES[0])
    assert compute_alpha_fair_loss(losses, 0.0) is losses
    close(compute_alpha_fair_loss(losses, 1.0), np.log(LOSSES[0]))
    close(compute_alpha_fair_loss(losses, 0.5), 2 * np.sqrt(LOSSES[0]))
    close(compute_alpha_fair_loss(losses, 3.0), -0.5 * LOSSES[0] ** -2)


@pytest.mark.deviation("log-floor")
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_transform_leaves_absent_losses_without_a_gradient(alpha: float) -> None:
    losses = to_tensor(np.array([0.0, 2.0])).requires_grad_()
    (gradient,) = torch.autograd.grad(compute_alpha_fair_loss(losses, alpha).sum(), losses)
    close(gradient, np.array([0, 2.0**-alpha]))


LOG_METHODS = ["mgda", "cagrad", "imtl", "fairgrad", "pcgrad", "ls", "rlw", "uw"]


@pytest.mark.parametrize("method", LOG_METHODS)
@pytest.mark.parametrize("first", [0.0, 1e-12, 1e-7, -1.0])
def test_logarithms_of_losses_at_and_near_0_and_below(method: str, first: float) -> None:
    weighting = load_weighting(method, losses="log")
    weighting.setup(["one", "two"])
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    slopes = torch.tensor([[1.0, 0.5], [-0.2, 1.0]], dtype=torch.float64)
    losses = torch.tensor([first, 1.0], dtype=torch.float64) + slopes @ x
    backward(losses, weighting, shared=[x])
    assert x.grad is not None
    # A negative loss has no logarithm: a step that would ascend it is NaN, and the run fails.
    assert bool(torch.isfinite(x.grad).all()) == (first >= 0)


@pytest.mark.parametrize("wrong", ["logs", -1.0, float("nan"), float("inf")])
def test_an_impossible_transform_is_refused(wrong: float | str) -> None:
    with pytest.raises(ValueError, match="expected 'plain', 'log' or a number from 0"):
        parse_loss_alpha(wrong)
