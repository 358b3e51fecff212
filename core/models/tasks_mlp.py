"""A small network for several regression tasks."""

from collections.abc import Mapping

from torch import Tensor, nn

from core.batch import Output
from core.models.base import Model

INPUTS, WIDTH = 8, 16


class TasksMLP(Model):
    """Two hidden layers of 16 units, shared (416 parameters), and a linear head per task (17).

    Args:
        outputs: The tasks; each has one output.
    """

    has_fixed_kernels = True

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()
        )
        self._heads = nn.ModuleDict({task: nn.Linear(WIDTH, n) for task, n in outputs.items()})

    def forward(self, inputs: Tensor) -> Output:
        """Return predictions ``(b,)`` by task for inputs ``(b, 8)``."""
        hidden = self.trunk(inputs)
        outputs = {task: head(hidden).squeeze(1) for task, head in self._heads.items()}
        return Output(outputs, hidden, (hidden,))

    def get_task_heads(self) -> Mapping[str, nn.Module]:
        """Return the linear heads by task."""
        return dict(self._heads.items())
