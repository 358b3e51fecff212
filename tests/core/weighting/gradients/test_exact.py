"""One step's gradients against K separate backward passes in float64."""

import pytest
import torch
from torch import nn

from core.weighting import (
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    backward,
    load_weighting,
)
from core.weighting.gradients.task_gradients import (
    DEVICE_PRODUCT_ENTRIES,
    FLOAT32_PRODUCT_ENTRIES,
    GRAM_BLOCK_ROWS,
    compute_gram,
    compute_gram_in_pieces,
    estimate_gram,
)
from tests.support.networks import (
    COMBINING,
    KNOWN,
    assert_same_gradients,
    compute_losses,
    compute_reference,
    copy_gradients,
    format_losses,
    group_parameters,
    make_network,
    make_weighting,
)


@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("form", ["scalars", "stack", "vector"])
@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("name", COMBINING)
def test_exact_is_the_reference(name: str, kind: str, form: str, with_features: bool) -> None:
    network, inputs, targets = make_network(kind)
    _, losses = compute_losses(network, inputs, targets)
    expected = compute_reference(network, losses, make_weighting(name))
    network.zero_grad()
    features, losses = compute_losses(network, inputs, targets)
    weighting = make_weighting(name)
    torch.manual_seed(5)
    step = backward(
        format_losses(form, losses),
        weighting,
        **group_parameters(network),
        features=features if with_features else None,
    )
    assert_same_gradients(copy_gradients(network), expected)
    assert step.strategy == "exact"
    assert (step.weights is None) == isinstance(weighting, GradientWeighting)


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in COMBINING])
def test_a_loss_weighting_descends_its_objective(name: str) -> None:
    network, inputs, targets = make_network()
    _, losses = compute_losses(network, inputs, targets)
    weighting = make_weighting(name)
    assert isinstance(weighting, LossWeighting)
    torch.manual_seed(5)
    weighting.compute_objective(weighting.transform_losses(torch.stack(losses))).backward()
    expected = copy_gradients(network) | {f"w.{k}": v for k, v in copy_gradients(weighting).items()}
    network.zero_grad()
    _, losses = compute_losses(network, inputs, targets)
    weighting = make_weighting(name)
    torch.manual_seed(5)
    step = backward(losses, weighting, **group_parameters(network))
    assert_same_gradients(
        copy_gradients(network) | {f"w.{k}": v for k, v in copy_gradients(weighting).items()},
        expected,
    )
    assert step.strategy == "scalarised"
    assert step.weights is not None


@pytest.mark.parametrize("name", ["fairgrad", "mgda", "graddrop"])
def test_log_losses(name: str) -> None:
    network, inputs, targets = make_network()
    weighting = load_weighting(name, losses="log")
    expected = compute_reference(network, compute_losses(network, inputs, targets)[1], weighting)
    network.zero_grad()
    torch.manual_seed(5)
    backward(compute_losses(network, inputs, targets)[1], weighting, **group_parameters(network))
    assert_same_gradients(copy_gradients(network), expected)


@pytest.mark.parametrize("form", ["scalars", "vector"])
@pytest.mark.parametrize("name", ["fairgrad", "cagrad"])
def test_heads_may_be_weighted(name: str, form: str) -> None:
    network, inputs, targets = make_network()
    losses = compute_losses(network, inputs, targets)[1]
    expected = compute_reference(network, losses, make_weighting(name), weighted=True)
    network.zero_grad()
    features, losses = compute_losses(network, inputs, targets)
    backward(
        format_losses(form, losses),
        make_weighting(name),
        **group_parameters(network),
        features=features,
        weighted_heads=True,
    )
    assert_same_gradients(copy_gradients(network), expected)


@pytest.mark.parametrize("strategy", ["exact", "representation", "matrix_free"])
@pytest.mark.parametrize("form", ["scalars", "vector"])
def test_frozen_parameters_stay_without_a_gradient(form: str, strategy: str) -> None:
    network, inputs, targets = make_network()
    frozen = [network.trunk[0].weight, network.trunk[1].bias, network.heads[1].bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    expected = compute_reference(
        network, compute_losses(network, inputs, targets)[1], make_weighting("fairgrad")
    )
    network.zero_grad()
    features, losses = compute_losses(network, inputs, targets)
    backward(
        format_losses(form, losses),
        make_weighting("fairgrad"),
        **group_parameters(network),
        features=features,
        strategy=strategy,
    )
    assert all(parameter.grad is None for parameter in frozen)
    if strategy == "exact":
        assert_same_gradients(copy_gradients(network), expected)


@pytest.mark.parametrize("strategy", ["exact", "matrix_free", "auto"])
def test_biases_may_be_all_that_learns(strategy: str) -> None:
    network, inputs, targets = make_network("mlp")
    for module in network.trunk:
        if isinstance(module, nn.Linear):
            module.weight.requires_grad_(False)
    expected = compute_reference(
        network, compute_losses(network, inputs, targets)[1], make_weighting("fairgrad")
    )
    network.zero_grad()
    features, losses = compute_losses(network, inputs, targets)
    backward(
        losses,
        make_weighting("fairgrad"),
        **group_parameters(network),
        features=features,
        strategy=strategy,
    )
    assert_same_gradients(
        copy_gradients(network), expected, rtol=1e-6 if strategy == "exact" else 1e-2
    )


@pytest.mark.parametrize("strategy", ["exact", "representation", "matrix_free"])
@pytest.mark.parametrize("form", ["scalars", "vector"])
@pytest.mark.parametrize("name", ["fairgrad", "nashmtl"])
def test_missing_tasks_are_left_out(name: str, form: str, strategy: str) -> None:
    network, inputs, targets = make_network(tasks=4)
    present = [True, False, True, True]
    losses = compute_losses(network, inputs, targets)[1]
    expected = compute_reference(network, losses, make_weighting(name, 4), present)
    network.zero_grad()
    features, losses = compute_losses(network, inputs, targets)
    step = backward(
        format_losses(form, losses),
        make_weighting(name, 4),
        **group_parameters(network),
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
        assert_same_gradients(copy_gradients(network), expected)


def test_no_task_is_present() -> None:
    network, inputs, targets = make_network()
    losses = compute_losses(network, inputs, targets)[1]
    step = backward(
        losses, load_weighting("mgda"), **group_parameters(network), present=torch.zeros(3)
    )
    assert step.weights is not None
    assert not step.weights.any()
    assert all(value is None for value in copy_gradients(network).values())


def test_cached_weights_take_one_pass() -> None:
    network, inputs, targets = make_network()
    weighting = load_weighting("nashmtl", update_interval=2)
    found, strategies = [], []
    for _ in range(3):
        network.zero_grad()
        step = backward(
            compute_losses(network, inputs, targets)[1], weighting, **group_parameters(network)
        )
        found.append(copy_gradients(network))
        strategies.append(step.strategy)
    assert strategies == ["exact", "scalarised", "exact"]
    assert_same_gradients(found[1], found[0])


@pytest.mark.parametrize("count", [3, 2 * GRAM_BLOCK_ROWS + 5])
@pytest.mark.parametrize("size", [1, DEVICE_PRODUCT_ENTRIES, 2 * DEVICE_PRODUCT_ENTRIES + 3])
def test_pieces_of_gradients_have_their_inner_products(size: int, count: int) -> None:
    rows = torch.randn(count, size)
    wide = rows.double()
    expected = wide @ wide.T
    torch.testing.assert_close(compute_gram_in_pieces(rows), expected)
    for given in (rows, list(rows), wide, list(wide)):
        found = compute_gram(given)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * size)


@pytest.mark.parametrize("count", [3, 2 * GRAM_BLOCK_ROWS + 5])
@pytest.mark.parametrize("size", [1, FLOAT32_PRODUCT_ENTRIES, 5 * FLOAT32_PRODUCT_ENTRIES + 3])
def test_estimated_inner_products_are_close(size: int, count: int) -> None:
    rows = torch.randn(count, size)
    norms = rows.double().norm(dim=1)
    found = estimate_gram(rows)
    assert found.dtype == torch.float64
    assert ((found - compute_gram(rows)).abs() / (norms[:, None] * norms)).max() < 1e-6
    torch.testing.assert_close(found, found.T, rtol=0, atol=0)
    wide = rows.double()
    torch.testing.assert_close(estimate_gram(wide), compute_gram(wide), rtol=0, atol=0)


def test_weights_may_be_solved_elsewhere() -> None:
    network, inputs, targets = make_network()
    weighting = load_weighting("fairgrad")
    assert isinstance(weighting, GramWeighting)
    grams: list[torch.Tensor] = []

    def solve(gram: torch.Tensor) -> torch.Tensor:
        grams.append(gram)
        return torch.arange(1.0, len(gram) + 1, dtype=gram.dtype)

    _, losses = compute_losses(network, inputs, targets)
    with weighting.replace_solver(solve):
        step = backward(losses, weighting, **group_parameters(network))
    assert step.weights is not None
    torch.testing.assert_close(step.weights, torch.arange(1.0, len(losses) + 1).to(step.weights))
    assert step.gram is grams[0]
    assert not torch.allclose(weighting.compute_weights(step.gram), solve(step.gram))
