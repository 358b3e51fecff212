"""The guide's loop with losses in any container, for every weighting found."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.registry import find_components
from core.weighting import Weighting, backward, load_weighting
from core.weighting.base import join_losses

KNOWN = sorted(find_components("core.weighting.methods", Weighting))
TASKS = 3


def stack(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses))


Container = Callable[[Sequence[Tensor]], Tensor | Sequence[Tensor]]
CONTAINERS: dict[str, Container] = {
    "tensor": stack,
    "list": list,
    "tuple": tuple,
    "vectors": lambda losses: [loss[None] for loss in losses],
    "parts": lambda losses: (torch.stack(list(losses[:2])), losses[2]),
}


def take_steps(name: str, container: Container, after: Callable[[list[Tensor]], object]) -> Tensor:
    """Return the trunk's weights after four steps in two epochs."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
    heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(TASKS))
    weighting = load_weighting(name)
    weighting.setup(tuple(f"task{i}" for i in range(TASKS)))
    parameters = [*trunk.parameters(), *heads.parameters(), *weighting.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    inputs, targets = torch.randn(8, 4), torch.randn(TASKS, 8, 1)

    def compute_losses() -> tuple[Tensor, list[Tensor]]:
        features = trunk(inputs)
        outputs = [head(features) for head in heads]
        pairs = zip(outputs, targets, strict=True)
        return features, [nn.functional.mse_loss(output, target) for output, target in pairs]

    for step in range(4):
        features, losses = compute_losses()
        optimizer.zero_grad()
        backward(
            container(losses),
            weighting,
            shared=trunk.parameters(),
            heads=heads.parameters(),
            features=[features],
            present=[True] * TASKS,
        )
        optimizer.step()
        weighting.after_step(after(compute_losses()[1]))  # type: ignore[arg-type]
        if step % 2:
            weighting.on_epoch_end()
    assert not any(buffer.requires_grad for buffer in weighting.buffers())
    weight = trunk[0].weight
    assert isinstance(weight, Tensor)
    return weight.detach()


@pytest.mark.parametrize("name", KNOWN)
def test_every_weighting_takes_every_container(name: str) -> None:
    expected = take_steps(name, stack, stack)
    for container in CONTAINERS.values():
        torch.testing.assert_close(take_steps(name, container, container), expected)
    numbers = take_steps(name, list, lambda losses: [loss.item() for loss in losses])
    torch.testing.assert_close(numbers, expected)


@pytest.mark.parametrize(
    "losses",
    [
        np.array([1.0, 2.0]), np.array([1, 2]), np.array([1, 2], dtype=np.float32),
        [np.float32(1), 2], torch.tensor([1, 2]), [torch.tensor(1), 2.0], iter([1.0, 2.0]),
    ],
)  # fmt: skip
def test_losses_are_numbers_of_any_kind(losses: Iterable[float]) -> None:
    torch.testing.assert_close(join_losses(losses), torch.tensor([1.0, 2.0]), check_dtype=False)


@pytest.mark.parametrize("losses", [None, 1.0])
def test_what_holds_no_losses_is_refused(losses: object) -> None:
    with pytest.raises(TypeError, match="expected a tensor or a sequence of losses"):
        join_losses(losses)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [n for n in KNOWN if load_weighting(n).needs_losses_after_step])
def test_wrong_losses_after_a_step_are_refused(name: str) -> None:
    weighting = load_weighting(name)
    weighting.setup(["a", "b"])
    with pytest.raises(ValueError, match="received 3 losses, expected 2"):
        weighting.after_step([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="losses is empty"):
        weighting.after_step([])
    with pytest.raises(TypeError, match=r"losses holds '0.1', expected tensors or numbers"):
        weighting.after_step(["0.1", 0.2])  # type: ignore[list-item]
