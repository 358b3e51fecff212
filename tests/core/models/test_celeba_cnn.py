"""The network for CelebA has the published size and agrees with a reference."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from core.models import build_model
from core.models.base import Model

OUTPUTS = {f"attribute_{i}": 1 for i in range(40)}


def count_expected_parameters(widths: tuple[int, ...]) -> int:
    a, b, c, d = widths
    pairs = [(3, a), (a, b), (b, b), (b, c), (c, c), (c, d), (d, d)]
    convolutions = sum(9 * i * o + 2 * o for i, o in pairs)
    hidden = 2 * (d * d + 2 * d)
    return convolutions + hidden + 40 * (d + 1)


@pytest.mark.parametrize(
    ("name", "widths", "parameters"),
    [
        ("celeba_cnn", (64, 128, 256, 512), 5_197_160),
        ("celeba_cnn_small", (8, 16, 32, 64), 84_304),
    ],
)
def test_parameter_count(name: str, widths: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        model = build_model(name, OUTPUTS)
    assert (
        sum(p.numel() for p in model.parameters())
        == count_expected_parameters(widths)
        == parameters
    )
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 7
    assert list(model.get_task_heads()) == list(OUTPUTS)


def compute_reference(model: Model, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute logits ``(b, 40)`` and hidden layer, layer by layer."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]

    def norm(x: Tensor, module: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
        axes = (0, 2, 3) if x.ndim == 4 else (0,)
        mean = x.mean(dim=axes, keepdim=True)
        variance = x.var(dim=axes, keepdim=True, unbiased=False)
        shape = (1, -1, 1, 1) if x.ndim == 4 else (1, -1)
        scale, shift = module.weight.view(shape), module.bias.view(shape)
        return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)

    for i in range(7):
        x = norm(functional.conv2d(x, layers[i].weight, padding=1), norms[i])
        if i in (0, 2, 4):
            x = functional.max_pool2d(x, 2)
    x = x.flatten(2).mean(dim=2)
    for i in (7, 8):
        x = norm(x @ layers[i].weight.T, norms[i])
    heads = layers[9:]
    logits = [x @ head.weight[0] + head.bias[0] for head in heads]  # type: ignore[index]
    return torch.stack(logits, dim=1), x


def test_forward_agrees_with_reference() -> None:
    torch.manual_seed(0)
    model = build_model("celeba_cnn_small", OUTPUTS).double()
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    found = model(images)
    logits, hidden = compute_reference(model, images.double() / 255)
    torch.testing.assert_close(torch.stack([*found.outputs.values()], dim=1), logits)
    torch.testing.assert_close(found.representation, hidden)
    assert all(output.shape == (4,) for output in found.outputs.values())
    torch.testing.assert_close(model(images.double() / 255).representation, hidden)


def test_heads_map_features_to_outputs() -> None:
    torch.manual_seed(0)
    model = build_model("celeba_cnn_small", OUTPUTS).double()
    found = model(torch.rand(3, 3, 64, 64, dtype=torch.float64))
    assert found.features is not None
    (feature,) = found.features
    for task, head in model.get_task_heads().items():
        torch.testing.assert_close(head(feature).squeeze(1), found.outputs[task])


def test_each_head_learns_from_its_own_task_only() -> None:
    model = build_model("celeba_cnn_small", OUTPUTS)
    model(torch.rand(3, 3, 64, 64)).outputs["attribute_3"].sum().backward()
    for task, head in model.get_task_heads().items():
        (bias,) = (p for name, p in head.named_parameters() if name == "bias")
        assert bias.grad is not None
        assert bool(bias.grad.any()) == (task == "attribute_3")
