"""A small convolutional network with a head per task, for 12x12 canvases with two digits."""

from collections.abc import Mapping

from torch import Tensor, nn

from core.batch import Output
from core.models.base import Model

WIDTH = 32


class TwoDigitsCNN(Model):
    """Two convolutions with pooling and a hidden layer of 32 units, shared: 5,888 parameters.

    Each task adds a linear head, 33 parameters per output.

    Args:
        outputs: The number of outputs by task; predictions of a task with one output are ``(b,)``.
    """

    has_fixed_kernels = True

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(144, WIDTH),
            nn.ReLU(),
        )
        self._heads = nn.ModuleDict({task: nn.Linear(WIDTH, n) for task, n in outputs.items()})

    def forward(self, inputs: Tensor) -> Output:
        """Return outputs by task and the hidden layer ``(b, 32)`` for images ``(b, 1, 12, 12)``."""
        hidden = self.trunk(inputs)
        outputs = {task: head(hidden) for task, head in self._heads.items()}
        numbers = {
            task: out.squeeze(1) if out.shape[1] == 1 else out for task, out in outputs.items()
        }
        return Output(numbers, hidden, (hidden,))

    def get_task_heads(self) -> Mapping[str, nn.Module]:
        """Return the linear heads by task."""
        return dict(self._heads.items())
