"""Weights without K gradients: their equation, the products, and the choice of the way."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from core.weighting import (
    backward,
    load_weighting,
)
from core.weighting.gradients.jvp import Tangents
from core.weighting.methods.fairgrad import FairGrad
from tests.support.networks import (
    flat,
    grads,
    groups,
    losses_of,
    make,
    same,
)


@pytest.mark.parametrize("name", ["fairgrad", "nashmtl"])
@pytest.mark.parametrize("tasks", [2, 5, 12])
@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_matrix_free_weights_solve_the_exact_equation(kind: str, tasks: int, name: str) -> None:
    network, inputs, targets = make(kind, tasks)
    weighting = load_weighting(name)
    assert isinstance(weighting, FairGrad)
    features, losses = losses_of(network, inputs, targets)
    buffers = {key: value.clone() for key, value in network.named_buffers()}
    step = backward(
        losses, weighting, **groups(network), features=features, gradients="matrix_free"
    )
    assert step.way == "matrix_free"
    assert step.residual <= 1e-2
    assert (weighting.products, weighting.fallbacks) == (step.products, 0)
    assert all(bool((value == buffers[key]).all()) for key, value in network.named_buffers())
    assert step.weights is not None
    found = torch.cat([flat(p) for p in network.trunk.parameters()])
    rows = []
    for loss in losses_of(network, inputs, targets)[1]:
        network.zero_grad()
        loss.backward(retain_graph=True)
        rows.append(torch.cat([flat(p) for p in network.trunk.parameters()]))
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


def test_what_has_no_second_derivative_is_exact_and_counted() -> None:
    network, inputs, targets = make()
    weighting = load_weighting("fairgrad")
    assert isinstance(weighting, FairGrad)
    found = []
    for gradients in ("exact", "matrix_free"):
        network.zero_grad()
        features = Opaque.apply(network.trunk(inputs))  # type: ignore[no-untyped-call]
        outputs = [head(features + network.common(features)) for head in network.heads]
        losses = [(o[:, 0] - t).square().mean() for o, t in zip(outputs, targets.T, strict=True)]
        step = backward(
            losses, weighting, **groups(network), features=features, gradients=gradients
        )
        assert step.way == "exact"
        found.append(grads(network))
    same(found[1], found[0])
    assert weighting.fallbacks == 1
    copy = load_weighting("fairgrad")
    copy.load_state_dict(weighting.state_dict())
    assert isinstance(copy, FairGrad)
    assert (copy.fallbacks, copy.products) == (1, weighting.products)


def test_auto_does_not_search_in_vain_at_every_step() -> None:
    layer, weighting = nn.Linear(4, 4), load_weighting("fairgrad")
    assert isinstance(weighting, FairGrad)
    tried = []
    for waited in (0, 0, 98, 99):  # exact steps since the search
        weighting.waited = waited
        features = Opaque.apply(layer(torch.ones(9, 4)))  # type: ignore[no-untyped-call]
        losses = [(features[:, i % 4] - i).square().mean() for i in range(40)]
        step = backward(
            losses, weighting, shared=layer.parameters(), features=features, gradients="auto"
        )
        assert step.way == "exact"
        tried.append(step.products > 0)
    assert tried == [True, False, False, True]


def test_auto_takes_the_cheaper_exact_way() -> None:
    ways = []
    for tasks, features_given in ((3, True), (20, True), (20, False)):
        network, inputs, targets = make("mlp", tasks)
        features, losses = losses_of(network, inputs, targets)
        ways.append(
            backward(
                losses,
                load_weighting("fairgrad"),
                **groups(network),
                features=features if features_given else None,
                gradients="auto",
            ).way
        )
    assert ways == ["exact", "matrix_free", "exact"]
    network, inputs, targets = make("mlp", 20)
    features, losses = losses_of(network, inputs, targets)
    step = backward(
        losses, load_weighting("mgda"), **groups(network), features=features, gradients="auto"
    )
    assert step.way == "exact"


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
    product = Tangents([get_gradient_edge(features)], parameters)(towards)[0]
    against = torch.randn_like(features)
    back = torch.autograd.grad(features, parameters, against)
    forth = sum(float((g * t).sum()) for g, t in zip(back, towards, strict=True))
    assert float((product * against).sum()) == pytest.approx(forth, rel=1e-9)
