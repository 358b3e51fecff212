"""Networks of :mod:`benchmarks.weighting_step`, on made-up data."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = tuple[Tensor, list[Tensor]]


class Problem:
    """A trunk, a head per task, and one batch.

    Args:
        trunk: From inputs to features.
        heads: From features to predictions, one per task.
        draw_batch: Returns a new batch: inputs, and targets, one tensor per task.
        compute_loss: Returns the loss of a prediction and its targets.
    """

    def __init__(
        self,
        trunk: nn.Module,
        heads: nn.ModuleList,
        draw_batch: Callable[[], Batch],
        compute_loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.trunk, self.heads, self.compute_loss = trunk, heads, compute_loss
        self._draw_batch = draw_batch
        self.inputs, self.targets = draw_batch()
        self.tasks = len(heads)

    def to(self, device: str) -> "Problem":
        self.trunk.to(device)
        self.heads.to(device)
        self.inputs = self.inputs.to(device)
        self.targets = [target.to(device) for target in self.targets]
        return self

    def draw_batch(self) -> None:
        """Draw another batch."""
        device = self.inputs.device
        inputs, targets = self._draw_batch()
        self.inputs, self.targets = inputs.to(device), [target.to(device) for target in targets]

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """Return the features and the losses."""
        features = self.trunk(self.inputs)
        return features, [
            self.compute_loss(head(features), target)
            for head, target in zip(self.heads, self.targets, strict=True)
        ]

    def clear_gradients(self) -> None:
        for parameter in (*self.trunk.parameters(), *self.heads.parameters()):
            parameter.grad = None
            if hasattr(parameter, "jac"):  # TorchJD's
                del parameter.jac


def _make_block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


class SegNet(nn.Module):
    """Five stages down with max pooling and five up again by the pooling's indices."""

    def __init__(self, width: float) -> None:
        super().__init__()
        sizes = [max(4, int(width * size)) for size in (64, 128, 256, 512, 512)]
        self.down = nn.ModuleList(
            nn.Sequential(*_make_block(before, size), *_make_block(size, size))
            for before, size in zip([3, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(*_make_block(size, size), *_make_block(size, after))
            for size, after in zip(sizes[::-1], [*sizes[-2::-1], sizes[0]], strict=True)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        indices = []
        for stage in self.down:
            inputs, index = F.max_pool2d(stage(inputs), 2, return_indices=True)
            indices.append(index)
        for stage in self.up:
            inputs = stage(F.max_unpool2d(inputs, indices.pop(), [2, 2]))
        return inputs


def make_segnet(tasks: int, width: float, batch: int) -> Problem:
    channels = max(4, int(64 * width))
    heads = nn.ModuleList(
        nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, out, 1))
        for out in (13, 1, 3)[:tasks]
    )

    def draw_batch() -> Batch:
        side = (64, 128)
        inputs = torch.randn(max(2, batch // 8), 3, *side)
        return inputs, [torch.randn(len(inputs), out, *side) for out in (13, 1, 3)[:tasks]]

    return Problem(SegNet(width), heads, draw_batch, F.l1_loss)


def make_celeba(tasks: int, width: float, batch: int) -> Problem:
    """System 2's network for 64 x 64 images: seven convolutions, two linear layers, 40 heads."""
    layers: list[nn.Module] = []
    before = 3
    for i, size in enumerate((64, 64, 128, 128, 256, 256, 512)):
        after = max(4, int(size * width))
        layers += _make_block(before, after)
        if i % 2:
            layers.append(nn.MaxPool2d(2))
        before = after
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 512), nn.ReLU()]
    layers += [nn.Linear(512, 512), nn.ReLU()]

    def draw_inputs() -> Tensor:
        return F.interpolate(torch.randn(batch, 3, 8, 8), size=64, mode="bilinear")

    return _make_attribute_problem(nn.Sequential(*layers), 512, tasks, draw_inputs)


def _make_attribute_problem(
    trunk: nn.Module, size: int, tasks: int, draw_inputs: Callable[[], Tensor]
) -> Problem:
    """Binary attributes: linear functions of the inputs, more or less frequent."""
    entries = draw_inputs()[0].numel()
    towards, least = torch.randn(entries, tasks) / entries**0.5, torch.randn(tasks)

    def draw_batch() -> Batch:
        inputs = draw_inputs()
        return inputs, list((inputs.flatten(1) @ towards > least).float().T)

    heads = nn.ModuleList(nn.Linear(size, 1) for _ in range(tasks))

    def compute_loss(output: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output[:, 0], target)

    return Problem(trunk, heads, draw_batch, compute_loss)


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = (
            nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = (self.body(inputs) + self.shortcut(inputs)).relu()
        return found


def make_resnet(width: float, batch: int) -> Problem:
    """A ResNet-18 for 64 x 64 images with 11 tasks."""
    sizes = [max(4, int(width * size)) for size in (64, 64, 64, 128, 128, 256, 256, 512, 512)]
    blocks = [Residual(a, b) for a, b in pairwise(sizes)]
    trunk = nn.Sequential(*_make_block(3, sizes[0]), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return _make_attribute_problem(
        trunk, sizes[-1], 11, lambda: torch.randn(max(2, batch // 4), 3, 64, 64)
    )


def make_mlp(tasks: int, width: float, batch: int) -> Problem:
    size = int(2048 * width)
    layers: list[nn.Module] = []
    for before in (128, size, size):
        layers += [nn.Linear(before, size), nn.ReLU()]
    return _make_attribute_problem(
        nn.Sequential(*layers), size, tasks, lambda: torch.randn(8 * batch, 128)
    )


NETWORKS: dict[str, Callable[[float, int], Problem]] = {
    "segnet-2": partial(make_segnet, 2),
    "segnet-3": partial(make_segnet, 3),
    "celeba-10": partial(make_celeba, 10),
    "celeba": partial(make_celeba, 40),
    "resnet": make_resnet,
    "mlp-11": partial(make_mlp, 11),
    "mlp-40": partial(make_mlp, 40),
}
