"""One step's gradients against K separate backward passes in float64."""

import pytest
import torch
from torch import nn

from core.weighting import (
    GradientWeighting,
    LossWeighting,
    backward,
    load_weighting,
)
from tests.support.networks import (
    COMBINING,
    KNOWN,
    as_given,
    bound,
    grads,
    groups,
    losses_of,
    make,
    reference,
    same,
)


@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("form", ["scalars", "stack", "vector"])
@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("name", COMBINING)
def test_exact_is_the_reference(name: str, kind: str, form: str, with_features: bool) -> None:
    network, inputs, targets = make(kind)
    _, losses = losses_of(network, inputs, targets)
    expected = reference(network, losses, bound(name))
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    weighting = bound(name)
    torch.manual_seed(5)
    step = backward(
        as_given(form, losses),
        weighting,
        **groups(network),
        features=features if with_features else None,
    )
    same(grads(network), expected)
    assert step.strategy == "exact"
    assert (step.weights is None) == isinstance(weighting, GradientWeighting)


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in COMBINING])
def test_a_loss_weighting_descends_its_objective(name: str) -> None:
    network, inputs, targets = make()
    _, losses = losses_of(network, inputs, targets)
    weighting = bound(name)
    assert isinstance(weighting, LossWeighting)
    torch.manual_seed(5)
    weighting.compute_objective(weighting.transform_losses(torch.stack(losses))).backward()
    expected = grads(network) | {f"w.{k}": v for k, v in grads(weighting).items()}
    network.zero_grad()
    _, losses = losses_of(network, inputs, targets)
    weighting = bound(name)
    torch.manual_seed(5)
    step = backward(losses, weighting, **groups(network))
    same(grads(network) | {f"w.{k}": v for k, v in grads(weighting).items()}, expected)
    assert step.strategy == "scalarised"
    assert step.weights is not None


@pytest.mark.parametrize("name", ["fairgrad", "mgda", "graddrop"])
def test_log_losses(name: str) -> None:
    network, inputs, targets = make()
    weighting = load_weighting(name, losses="log")
    expected = reference(network, losses_of(network, inputs, targets)[1], weighting)
    network.zero_grad()
    torch.manual_seed(5)
    backward(losses_of(network, inputs, targets)[1], weighting, **groups(network))
    same(grads(network), expected)


@pytest.mark.parametrize("form", ["scalars", "vector"])
@pytest.mark.parametrize("name", ["fairgrad", "cagrad"])
def test_heads_may_be_weighted(name: str, form: str) -> None:
    network, inputs, targets = make()
    losses = losses_of(network, inputs, targets)[1]
    expected = reference(network, losses, bound(name), weighted=True)
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    backward(
        as_given(form, losses),
        bound(name),
        **groups(network),
        features=features,
        weighted_heads=True,
    )
    same(grads(network), expected)


@pytest.mark.parametrize("strategy", ["exact", "representation", "matrix_free"])
@pytest.mark.parametrize("form", ["scalars", "vector"])
def test_frozen_parameters_stay_without_a_gradient(form: str, strategy: str) -> None:
    network, inputs, targets = make()
    frozen = [network.trunk[0].weight, network.trunk[1].bias, network.heads[1].bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    expected = reference(network, losses_of(network, inputs, targets)[1], bound("fairgrad"))
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    backward(
        as_given(form, losses),
        bound("fairgrad"),
        **groups(network),
        features=features,
        strategy=strategy,
    )
    assert all(parameter.grad is None for parameter in frozen)
    if strategy == "exact":
        same(grads(network), expected)


@pytest.mark.parametrize("strategy", ["exact", "matrix_free", "auto"])
def test_biases_may_be_all_that_learns(strategy: str) -> None:
    network, inputs, targets = make("mlp")
    for module in network.trunk:
        if isinstance(module, nn.Linear):
            module.weight.requires_grad_(False)
    expected = reference(network, losses_of(network, inputs, targets)[1], bound("fairgrad"))
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    backward(losses, bound("fairgrad"), **groups(network), features=features, strategy=strategy)
    same(grads(network), expected, rtol=1e-6 if strategy == "exact" else 1e-2)


@pytest.mark.parametrize("strategy", ["exact", "representation", "matrix_free"])
@pytest.mark.parametrize("form", ["scalars", "vector"])
@pytest.mark.parametrize("name", ["fairgrad", "nashmtl"])
def test_missing_tasks_are_left_out(name: str, form: str, strategy: str) -> None:
    network, inputs, targets = make(tasks=4)
    present = [True, False, True, True]
    losses = losses_of(network, inputs, targets)[1]
    expected = reference(network, losses, bound(name, 4), present)
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    step = backward(
        as_given(form, losses),
        bound(name, 4),
        **groups(network),
        features=features,
        present=torch.tensor(present),
        strategy=strategy,
    )
    assert step.weights is not None
    assert step.weights[1] == 0
    assert (step.weights[[0, 2, 3]] > 0).all()
    if form == "scalars":
        assert network.heads[1].weight.grad is None
    if strategy == "exact" and form == "scalars":
        same(grads(network), expected)


def test_no_task_is_present() -> None:
    network, inputs, targets = make()
    losses = losses_of(network, inputs, targets)[1]
    step = backward(losses, load_weighting("mgda"), **groups(network), present=torch.zeros(3))
    assert step.weights is not None
    assert not step.weights.any()
    assert all(value is None for value in grads(network).values())


def test_cached_weights_take_one_pass() -> None:
    network, inputs, targets = make()
    weighting = load_weighting("nashmtl", update_interval=2)
    found, strategies = [], []
    for _ in range(3):
        network.zero_grad()
        step = backward(losses_of(network, inputs, targets)[1], weighting, **groups(network))
        found.append(grads(network))
        strategies.append(step.strategy)
    assert strategies == ["exact", "scalarised", "exact"]
    same(found[1], found[0])
