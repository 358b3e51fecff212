"""Networks of several tasks: batches have a row of examples per task, so no example has a task id.

Layers record their inputs and outputs on request, from which :mod:`core.reinforcement.backward`
makes the gradient of every task in one pass.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SHARING = ("heads", "one_hot", "all")


class LayerTrace(NamedTuple):
    """A shared linear layer in one forward pass.

    Args:
        layer: The layer.
        inputs: Its inputs, ``(k, b, in)``.
        outputs: Its outputs before the activation, ``(k, b, out)``.
    """

    layer: nn.Linear
    inputs: Tensor
    outputs: Tensor


class TaskHeads(nn.Module):
    """A linear layer per task.

    Args:
        tasks: Number of tasks, ``k``.
        inputs: Features of an example.
        outputs: Outputs of an example.
    """

    def __init__(self, tasks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = (6 / inputs) ** 0.5  # He-uniform, as the other layers
        self.weight = nn.Parameter(torch.empty(tasks, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(tasks, 1, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return each task's outputs, ``(k, b, outputs)``, for its inputs, ``(k, b, inputs)``."""
        return torch.baddbmm(self.bias, inputs, self.weight)


class TaskNetwork(nn.Module):
    """A perceptron whose hidden layers all tasks share.

    He-uniform weights and zero biases, ReLU.

    Args:
        tasks: Number of tasks, ``k``.
        inputs: Numbers per example.
        outputs: Outputs per example.
        width: Width of the hidden layers.
        depth: Number of hidden layers, at least 1.
        sharing: ``heads``: one-hot task id among the inputs, and an output layer per task;
            ``one_hot``: the task id, and one output layer; ``all``: neither, so that the network
            cannot know the task (as System 2).
    """

    def __init__(
        self, tasks: int, inputs: int, outputs: int, width: int, depth: int, sharing: str = "heads"
    ) -> None:
        super().__init__()
        self.has_task_id = sharing in ("heads", "one_hot")
        sizes = [inputs + tasks * self.has_task_id, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(first, second) for first, second in pairwise(sizes))
        self.heads = TaskHeads(tasks, width, outputs) if sharing == "heads" else None
        self.last = None if sharing == "heads" else nn.Linear(width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.register_buffer("task_id", torch.eye(tasks)[:, None], persistent=False)
        self.task_id: Tensor

    @property
    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters of all tasks."""
        own = {id(parameter) for parameter in self.head_parameters}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    @property
    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters with a row per task, ``(k, ...)``."""
        return [] if self.heads is None else list(self.heads.parameters())

    def forward(self, inputs: Tensor, traces: list[LayerTrace] | None = None) -> Tensor:
        """Return the outputs, ``(k, b, outputs)``, for inputs, ``(k, b, inputs)``.

        Args:
            inputs: The inputs.
            traces: Receives the shared layers' inputs and outputs.
        """
        values = inputs
        if self.has_task_id:
            values = torch.cat([inputs, self.task_id.expand(-1, inputs.shape[1], -1)], dim=2)
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            values = functional.relu(_apply_layer(layer, values, traces))
        if self.heads is not None:
            found: Tensor = self.heads(values)
            return found
        assert self.last is not None
        return _apply_layer(self.last, values, traces)


def _apply_layer(layer: nn.Linear, inputs: Tensor, traces: list[LayerTrace] | None) -> Tensor:
    outputs: Tensor = layer(inputs)
    if traces is not None:
        traces.append(LayerTrace(layer, inputs.detach(), outputs))
    return outputs
