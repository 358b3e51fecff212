"""Compiled trunks, by the default compiler: the step is that of the plain trunk."""

from typing import Any

import pytest
import torch
from torch import Tensor

from core.weighting import AlphaFairWeighting, GramWeighting, backward
from tests.support.networks import (
    COMBINING,
    assert_same_gradients,
    copy_gradients,
    group_parameters,
    make_network,
    make_weighting,
)

STRATEGIES = ["exact", "auto", "representation", "matrix_free"]


@pytest.fixture(scope="module")
def compiled() -> object:
    """A network whose trunk is compiled, once for all tests."""
    network, inputs, targets = make_network("mlp")
    trunk = torch.compile(lambda inputs: network.trunk(inputs))
    return network, trunk, inputs, targets


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", COMBINING)
def test_compiled_trunks_take_the_same_step(
    name: str, strategy: str, compiled: tuple[Any, ...]
) -> None:
    network, trunk, inputs, targets = compiled
    kind = {"representation": GramWeighting, "matrix_free": AlphaFairWeighting}.get(strategy)
    if kind is not None and not isinstance(make_weighting(name), kind):
        pytest.skip("for other weightings")
    found = []
    for forward in (network.trunk, trunk):
        network.zero_grad()
        features: Tensor = forward(inputs)
        if forward is trunk:
            assert features.grad_fn is not None
            assert "Compiled" in features.grad_fn.name()
        losses = [
            (head(features) - target).square().mean()
            for head, target in zip(network.heads, targets.T, strict=True)
        ]
        backward(
            losses,
            make_weighting(name),
            **group_parameters(network),
            features=features,
            strategy="exact" if strategy == "matrix_free" and forward is not trunk else strategy,
        )
        found.append(copy_gradients(network))
    assert_same_gradients(found[1], found[0])
