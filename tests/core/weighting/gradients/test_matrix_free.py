"""Weights without K gradients: their equation, the products, and the choice of the strategy."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from core.weighting import (
    AlphaFairWeighting,
    backward,
    load_weighting,
)
from core.weighting.gradients.jvp import FeatureJvp
from tests.support.networks import (
    assert_same_gradients,
    compute_losses,
    copy_gradients,
    flatten_gradient,
    group_parameters,
    make_network,
)


@pytest.mark.parametrize("name", ["fairgrad", "nashmtl"])
@pytest.mark.parametrize("tasks", [2, 5, 12])
@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_matrix_free_weights_solve_the_exact_equation(kind: str, tasks: int, name: str) -> None:
    network, inputs, targets = make_network(kind, tasks)
    weighting = load_weighting(name)
    assert isinstance(weighting, AlphaFairWeighting)
    features, losses = compute_losses(network, inputs, targets)
    buffers = {key: value.clone() for key, value in network.named_buffers()}
    step = backward(
        losses, weighting, **group_parameters(network), features=features, strategy="matrix_free"
    )
    assert step.strategy == "matrix_free"
    assert step.residual <= 1e-2
    history = weighting.search_history
    assert (history.last_products, history.fallbacks) == (step.products, 0)
    assert all(bool((value == buffers[key]).all()) for key, value in network.named_buffers())
    assert step.weights is not None
    found = torch.cat([flatten_gradient(p) for p in network.trunk.parameters()])
    rows = []
    for loss in compute_losses(network, inputs, targets)[1]:
        network.zero_grad()
        loss.backward(retain_graph=True)
        rows.append(torch.cat([flatten_gradient(p) for p in network.trunk.parameters()]))
    matrix = torch.stack(rows)
    weights = step.weights
    right = weights ** (-1 / weighting.alpha)
    residual = float(((matrix @ matrix.T @ weights - right) / right).abs().max())
    assert residual == pytest.approx(step.residual, abs=1e-6)
    torch.testing.assert_close(found, weights @ matrix)


class Opaque(torch.autograd.Function):
    """An operation that autograd cannot look into."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        return inputs * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * 2


def test_operations_without_a_second_derivative_are_exact_and_counted() -> None:
    network, inputs, targets = make_network()
    weighting = load_weighting("fairgrad")
    assert isinstance(weighting, AlphaFairWeighting)
    found = []
    for strategy in ("exact", "matrix_free"):
        network.zero_grad()
        features = Opaque.apply(network.trunk(inputs))  # type: ignore[no-untyped-call]
        outputs = [head(features + network.common(features)) for head in network.heads]
        losses = [(o[:, 0] - t).square().mean() for o, t in zip(outputs, targets.T, strict=True)]
        step = backward(
            losses, weighting, **group_parameters(network), features=features, strategy=strategy
        )
        assert step.strategy == "exact"
        assert step.products == (strategy == "matrix_free")  # the one that failed
        found.append(copy_gradients(network))
    assert_same_gradients(found[1], found[0])
    assert weighting.search_history.fallbacks == 1
    copy = load_weighting("fairgrad")
    copy.load_state_dict(weighting.state_dict())
    assert isinstance(copy, AlphaFairWeighting)
    assert copy.search_history == weighting.search_history


def test_auto_does_not_search_in_vain_at_every_step() -> None:
    layer, weighting = nn.Linear(4, 4), load_weighting("fairgrad")
    assert isinstance(weighting, AlphaFairWeighting)
    tried = []
    for steps in (0, 0, 98, 99):  # exact steps since the search
        weighting.set_extra_state({**weighting.get_extra_state(), "exact_steps": steps})
        features = Opaque.apply(layer(torch.ones(9, 4)))  # type: ignore[no-untyped-call]
        losses = [(features[:, i % 4] - i).square().mean() for i in range(40)]
        step = backward(
            losses, weighting, shared=layer.parameters(), features=features, strategy="auto"
        )
        assert step.strategy == "exact"
        tried.append(step.products > 0)
    assert tried == [True, False, False, True]


def test_auto_takes_the_cheaper_exact_strategy() -> None:
    strategies = []
    for tasks, features_given in ((3, True), (20, True), (20, False)):
        network, inputs, targets = make_network("mlp", tasks)
        features, losses = compute_losses(network, inputs, targets)
        strategies.append(
            backward(
                losses,
                load_weighting("fairgrad"),
                **group_parameters(network),
                features=features if features_given else None,
                strategy="auto",
            ).strategy
        )
    assert strategies == ["exact", "matrix_free", "exact"]
    network, inputs, targets = make_network("mlp", 20)
    features, losses = compute_losses(network, inputs, targets)
    step = backward(
        losses,
        load_weighting("mgda"),
        **group_parameters(network),
        features=features,
        strategy="auto",
    )
    assert step.strategy == "exact"


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "strided": lambda: nn.Conv2d(2, 4, 3, stride=2, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(2, 4, 3, stride=2),
    "eval batch norm": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4).eval()),
    "group norm": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)),
    "dropout": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Dropout(0.5), nn.SiLU(inplace=True)),
    "pools": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)
    ),
    "frozen": lambda: nn.Sequential(nn.Conv2d(2, 4, 3).requires_grad_(False), nn.PReLU()),
    "layer norm": lambda: nn.Sequential(
        nn.Flatten(2),
        nn.Linear(36, 8),
        nn.LayerNorm(8),
        nn.Linear(8, 4, bias=False),
        nn.Hardswish(),
    ),
    "embedding": lambda: nn.Sequential(Places(), nn.Embedding(9, 4), nn.Softmax(-1)),
    "recurrent": lambda: nn.Sequential(nn.Flatten(2), Last(nn.GRU(36, 4, batch_first=True))),
}


class Places(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs[:, 0, 0].abs() * 4).long().clamp(max=8)


class Last(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.inner(inputs)[0]
        return found


@pytest.mark.parametrize("name", LAYERS)
def test_jacobian_vector_products_are_the_transposed(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    features = layer(torch.randn(5, 2, 6, 6).double())
    parameters = [p for p in layer.parameters() if p.requires_grad]
    towards = [torch.randn_like(p) for p in parameters]
    product = FeatureJvp([get_gradient_edge(features)], parameters)(towards)[0]
    against = torch.randn_like(features)
    back = torch.autograd.grad(features, parameters, against)
    forth = sum(float((g * t).sum()) for g, t in zip(back, towards, strict=True))
    assert float((product * against).sum()) == pytest.approx(forth, rel=1e-9)
