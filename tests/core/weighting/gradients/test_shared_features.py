"""Kinds of features: parts of one operation's outputs, several, and not made from each other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.weighting import AlphaFairWeighting, backward, load_weighting, solve_alpha_fair
from tests.support.networks import flatten_gradient

torch.manual_seed(0)
FIRST, SECOND = nn.Linear(6, 8).double(), nn.Linear(8, 4).double()
INPUTS, TARGETS = torch.randn(12, 6).double(), torch.randn(12).double()
HEADS = torch.randn(4, 4).double()
Made = tuple[list[Tensor], Tensor | list[Tensor]]  # losses and features


def _loss(features: Tensor, head: int) -> Tensor:
    return (features @ HEADS[head] - TARGETS).square().mean()


def _halves() -> tuple[Tensor, Tensor]:
    first, second = FIRST(INPUTS).tanh().chunk(2, 1)
    return first, second


def both_halves() -> Made:
    one, other = _halves()
    return [_loss(one, 0), _loss(other, 1), _loss(one + other, 2)], [one, other]


def named_twice() -> Made:
    one, other = _halves()
    return [_loss(one, 0), _loss(other, 1), _loss(one + other, 2)], [one, other, one]


def one_half() -> Made:
    one, other = _halves()
    return [_loss(one, 0), _loss(other, 1), _loss(one + other, 2)], one


def made_from_each_other() -> Made:
    one = FIRST(INPUTS).tanh()
    other = SECOND(one).tanh()
    return [_loss(one[:, :4], 0), _loss(other, 1), _loss(one[:, 4:] + other, 2)], [one, other]


def hooked() -> Made:
    one = FIRST(INPUTS).tanh()
    one.register_hook(lambda gradient: gradient / 3)
    return [_loss(one[:, :4], 0), _loss(one[:, 4:], 1)], one


def not_used() -> Made:
    one = FIRST(INPUTS).tanh()
    return [_loss(one[:, :4], 0), _loss(one[:, 4:], 1)], one.view(-1)


def _step(made: Made, strategy: str) -> tuple[Tensor, Tensor | None, str]:
    shared = [*FIRST.parameters(), *SECOND.parameters()]
    for parameter in shared:
        parameter.grad = None
    losses, features = made
    step = backward(
        losses, load_weighting("fairgrad"), shared=shared, features=features, strategy=strategy
    )
    return torch.cat([flatten_gradient(p) for p in shared]), step.weights, step.strategy


def _rows(make: Callable[[], Made]) -> Tensor:
    shared = [*FIRST.parameters(), *SECOND.parameters()]
    losses = make()[0]
    rows = []
    for loss in losses:
        for parameter in shared:
            parameter.grad = None
        loss.backward(retain_graph=True)
        rows.append(torch.cat([flatten_gradient(p) for p in shared]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "make", [both_halves, named_twice, one_half, made_from_each_other, hooked, not_used]
)
def test_exact_steps_are_exact_with_any_features(make: Callable[[], Made]) -> None:
    rows = _rows(make)
    expected = solve_alpha_fair(rows @ rows.T, 2.0).weights @ rows
    for strategy in ("exact", "auto"):
        torch.testing.assert_close(_step(make(), strategy)[0], expected)


@pytest.mark.parametrize("strategy", ["representation", "matrix_free"])
@pytest.mark.parametrize("make", [both_halves, named_twice])
def test_no_feature_counts_twice(make: Callable[[], Made], strategy: str) -> None:
    direction, weights, taken = _step(make(), strategy)
    assert taken == strategy
    assert weights is not None
    torch.testing.assert_close(direction, weights @ _rows(make))


@pytest.mark.parametrize("strategy", ["representation", "matrix_free"])
@pytest.mark.parametrize("make", [one_half, made_from_each_other, hooked, not_used])
def test_features_that_do_not_separate_are_refused(make: Callable[[], Made], strategy: str) -> None:
    with pytest.raises(ValueError, match="name all tensors that are between"):
        _step(make(), strategy)


@pytest.mark.parametrize("strategy", ["exact", "representation"])
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("place", [0, 1])
def test_a_constant_has_the_gradient_zero(place: int, stacked: bool, strategy: str) -> None:
    features = FIRST(INPUTS).tanh()
    losses = [_loss(features[:, :4], 0), _loss(features[:, 4:], 1)]
    losses.insert(place, torch.ones((), dtype=torch.float64))
    FIRST.zero_grad()
    weighting = load_weighting("fairgrad")
    assert isinstance(weighting, AlphaFairWeighting)
    step = backward(
        torch.stack(losses) if stacked else losses,
        weighting,
        shared=FIRST.parameters(),
        features=features,
        strategy=strategy,
    )
    assert step.gram is not None
    assert not step.gram[place].any()
    assert int(weighting.flagged_steps) == 1
    assert all(bool(torch.isfinite(flatten_gradient(p)).all()) for p in FIRST.parameters())


def test_a_loss_that_is_named_twice_is_two_losses() -> None:
    def make() -> Made:
        features = FIRST(INPUTS).tanh()
        loss = _loss(features[:, :4], 0)
        return [loss, loss, _loss(features[:, 4:], 1)], features

    rows = _rows(make)
    expected = solve_alpha_fair(rows @ rows.T, 2.0).weights @ rows
    torch.testing.assert_close(_step(make(), "exact")[0], expected)
