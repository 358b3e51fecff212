"""Matrix-free weights where the trunk ends in linear layers, whose share is known beforehand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.weighting import AlphaFairWeighting, backward, load_weighting
from core.weighting.gradients.last_layers import find_last_layers
from core.weighting.gradients.shared_features import SharedFeatures
from tests.support.networks import flatten_gradient

TASKS = 5


class Joined(nn.Module):
    """Convolutions, then linear layers, one of them beside a shortcut."""

    def __init__(self, shortcut_from_below: bool = False, tied: bool = False) -> None:
        super().__init__()
        self.below = nn.Sequential(
            nn.Conv2d(2, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8),
        )  # fmt: skip
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.from_below, self.tied = shortcut_from_below, tied

    def forward(self, inputs: Tensor) -> Tensor:
        below = self.below(inputs)
        hidden = self.first(below).relu()
        if self.tied:
            hidden = self.second(hidden)
        outputs: Tensor = self.second(hidden).tanh() + hidden
        return outputs + below if self.from_below else outputs


# With the linear layers of their ends.
TRUNKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "shortcut": (Joined, ["second", "first", "below.6"]),
    "shortcut from below": (
        lambda: Joined(shortcut_from_below=True),
        ["second", "first", "below.6"],
    ),
    "tied": (lambda: Joined(tied=True), []),
    "convolutions": (lambda: Joined().below[:6], []),
    "all linear": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 8)),
        ["3"],
    ),
}


def _problem(name: str) -> tuple[nn.Module, nn.ModuleList, Tensor]:
    torch.manual_seed(3)
    trunk, inputs = TRUNKS[name][0]().double(), torch.randn(12, 2, 8, 8).double()
    width = trunk(inputs).shape[1]
    return trunk, nn.ModuleList(nn.Linear(width, 1) for _ in range(TASKS)).double(), inputs


def _losses(features: Tensor, heads: nn.ModuleList) -> list[Tensor]:
    targets = torch.randn(TASKS, len(features), 1, generator=torch.Generator().manual_seed(4))
    return [
        (i + 1) * (head(features) - target).square().mean()
        for i, (head, target) in enumerate(zip(heads, targets, strict=True))
    ]


@pytest.mark.parametrize("name", TRUNKS)
def test_ends_are_found(name: str) -> None:
    trunk, _, inputs = _problem(name)
    parameters = list(trunk.parameters())
    found = find_last_layers(SharedFeatures(trunk(inputs)), parameters, TASKS)
    layers = [trunk.get_submodule(layer) for layer in TRUNKS[name][1]]
    expected = {id(p) for layer in layers for p in layer.parameters()}
    assert {id(p) for p in (found.parameters if found else [])} == expected


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", TRUNKS)
def test_weights_solve_the_exact_equation(name: str, frozen: bool) -> None:
    trunk, heads, inputs = _problem(name)
    if frozen:
        list(trunk.parameters())[-1].requires_grad_(False)
    shared = [p for p in trunk.parameters() if p.requires_grad]
    features, weighting = trunk(inputs), load_weighting("fairgrad")
    assert isinstance(weighting, AlphaFairWeighting)
    step = backward(
        _losses(features, heads),
        weighting,
        shared=trunk.parameters(),
        heads=heads.parameters(),
        features=features,
        strategy="matrix_free",
    )
    assert step.strategy == "matrix_free"
    found = torch.cat([flatten_gradient(p) for p in shared])
    rows = []
    for i in range(TASKS):
        trunk.zero_grad()
        _losses(trunk(inputs), heads)[i].backward()
        rows.append(torch.cat([flatten_gradient(p) for p in shared]))
    matrix, weights = torch.stack(rows), step.weights
    assert weights is not None
    torch.testing.assert_close(found, weights @ matrix)
    right = weights ** (-1 / weighting.alpha)
    residual = float(((matrix @ matrix.T @ weights - right) / right).abs().max())
    assert residual == pytest.approx(step.residual, abs=1e-6)


def test_a_wide_end_is_no_end() -> None:
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 64))
    features = trunk(torch.randn(12, 2, 8, 8))
    assert find_last_layers(SharedFeatures(features), list(trunk.parameters()), 40) is None
