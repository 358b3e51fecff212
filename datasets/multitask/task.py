"""Tasks of a multi-task benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        name: The name of its target and of the model's outputs for it.
        loss: Its loss: a name of :mod:`core.objectives.task_losses`.
        output_size: The number of the model's outputs for it: channels, classes, or 1.
        higher_is_better: Its metrics by name, and whether higher values are better.
    """

    name: str
    loss: str
    output_size: int
    higher_is_better: Mapping[str, bool]
