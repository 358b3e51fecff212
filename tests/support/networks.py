"""Networks with several losses, their step by K separate backward passes, and comparisons."""

from typing import Any

import torch
from torch import Tensor, nn

from core.registry import find_components
from core.weighting import (
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    Weighting,
    load_weighting,
)

KNOWN = find_components("core.weighting.methods", Weighting)
COMBINING = [name for name in KNOWN if not isinstance(load_weighting(name), LossWeighting)]
FROM_GRAM = [name for name in KNOWN if isinstance(load_weighting(name), GramWeighting)]


class Network(nn.Module):
    """A trunk, a head per task, a layer that the heads share, and a parameter without a use."""

    def __init__(self, kind: str, tasks: int = 3) -> None:
        super().__init__()
        if kind == "conv":
            self.trunk = nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(4, 6, 3, bias=False),
                nn.BatchNorm2d(6),
                nn.LeakyReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(6, 8),
                nn.Tanh(),
            )
        else:
            self.trunk = nn.Sequential(
                nn.Flatten(), nn.Linear(72, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 8)
            )
        self.common = nn.Linear(8, 8)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(tasks))
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.trunk(inputs)
        common = self.common(features).relu() + features
        return features, [head(common) for head in self.heads]


def make_network(kind: str = "conv", tasks: int = 3) -> tuple[Network, Tensor, Tensor]:
    """Return a float64 network with inputs and targets."""
    torch.manual_seed(1)
    network = Network(kind, tasks).double()
    return network, torch.randn(10, 2, 6, 6).double(), torch.randn(10, tasks).double()


def compute_losses(
    network: nn.Module, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, list[Tensor]]:
    features, outputs = network(inputs)
    scales = torch.logspace(-1, 1, len(outputs))
    return features, [
        scale * (output[:, 0] - target).square().mean()
        for scale, output, target in zip(scales, outputs, targets.T, strict=True)
    ]


def group_parameters(network: Network) -> dict[str, Any]:
    shared = [*network.trunk.parameters(), network.unused]
    return {"shared": shared, "heads": [*network.common.parameters(), *network.heads.parameters()]}


def make_weighting(name: str, tasks: int = 3) -> Weighting:
    torch.manual_seed(0)
    weighting = load_weighting(name)
    weighting.setup([f"task{i}" for i in range(tasks)])
    return weighting


def copy_gradients(network: nn.Module) -> dict[str, Tensor | None]:
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()
    }


def compute_reference(
    network: Network,
    losses: list[Tensor],
    weighting: Weighting,
    present: list[bool] | None = None,
    weighted: bool = False,
) -> dict[str, Tensor | None]:
    """K backward passes, each of everything, and the step put together by hand."""
    given = group_parameters(network)
    shared = [p for p in given["shared"] if p.requires_grad]
    kept = [i for i in range(len(losses)) if present is None or present[i]]
    transformed = weighting.transform_losses(torch.stack(losses))
    rows, heads = [], []
    for i in kept:
        network.zero_grad()
        transformed[i].backward(retain_graph=True)
        rows.append(torch.cat([flatten_gradient(p) for p in shared]))
        heads.append([flatten_gradient(p) for p in given["heads"]])
        touched = {id(p) for p in network.parameters() if p.grad is not None}
    matrix = torch.stack(rows)
    torch.manual_seed(5)
    if isinstance(weighting, GramWeighting):
        weights = weighting.compute_weights(matrix @ matrix.T)
        direction = weights @ matrix
    else:
        assert isinstance(weighting, GradientWeighting)
        weights, direction = torch.ones(len(kept)), weighting.combine_gradients(matrix)
    network.zero_grad()
    for p, piece in zip(shared, direction.split([p.numel() for p in shared]), strict=True):
        p.grad = piece.view_as(p).clone() if id(p) in touched else None
    factors = weights.to(matrix) if weighted else torch.ones(len(kept)).to(matrix)
    for j, p in enumerate(given["heads"]):
        if p.requires_grad and any(bool(row[j].any()) for row in heads):
            p.grad = sum(f * row[j] for f, row in zip(factors, heads, strict=True)).view_as(p)
    return copy_gradients(network)


def flatten_gradient(p: Tensor) -> Tensor:
    return (torch.zeros_like(p) if p.grad is None else p.grad).flatten().clone()


def get_gradient(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad


def assert_same_gradients(
    found: dict[str, Tensor | None], expected: dict[str, Tensor | None], rtol: float = 1e-6
) -> None:
    assert {k for k, v in found.items() if v is None} == {
        k for k, v in expected.items() if v is None
    }
    # A bias before a batch norm has a gradient of rounding only: errors count on the step's scale.
    size = max(float(value.abs().max()) for value in expected.values() if value is not None)
    for name, value in expected.items():
        other = found[name]
        if value is not None and other is not None:
            error = float((other - value.to(other)).abs().max())
            assert error <= rtol * size, f"{name}: {error:.1e} of {size:.1e}"


def format_losses(form: str, losses: list[Tensor]) -> Tensor | list[Tensor]:
    """Return losses as scalars, as a stack of them, or as one vector."""
    if form == "scalars":
        return losses
    return torch.stack(losses) if form == "stack" else torch.stack(losses) * 1
