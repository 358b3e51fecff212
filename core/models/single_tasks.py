"""One model per task, and the best of each so far."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.batch import Output
from core.models.base import Model
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.delta_m import compute_metric_deltas


class SingleTasks(Model):
    """One model per task.

    Args:
        benchmark: The tasks.
        make: Returns a model with the given outputs.
    """

    best_metrics: Tensor  # (metrics,) float64; NaN before the first epoch

    def __init__(
        self, benchmark: TaskBenchmark, make: Callable[[Mapping[str, int]], Model]
    ) -> None:
        super().__init__()
        self.benchmark = benchmark
        self.current = nn.ModuleDict(
            {task.name: make({task.name: task.output_size}) for task in benchmark.tasks}
        )
        self.best = copy.deepcopy(self.current)
        self.best.requires_grad_(False)
        nans = torch.full((len(benchmark.task_metrics),), torch.nan, dtype=torch.float64)
        self.register_buffer("best_metrics", nans)
        self.image = next(iter(self.current.values())).image  # type: ignore[assignment]
        self._evaluates_current = False

    @contextmanager
    def use_current(self) -> Iterator[None]:
        """Evaluate the current models instead of the best ones within a ``with`` block."""
        self._evaluates_current = True
        try:
            yield
        finally:
            self._evaluates_current = False

    def forward(self, inputs: Any) -> Output:
        """Return every task's outputs: of the current models in training, else of the best."""
        models = self.current if self.training or self._evaluates_current else self.best
        outputs: dict[str, Tensor] = {}
        hidden = []
        for model in models.values():
            found: Output = model(inputs)
            assert not isinstance(found.outputs, Tensor)
            outputs |= found.outputs
            hidden.append(found.representation)
        return Output(outputs, hidden[0])

    def keep_best(self, values: Mapping[str, float]) -> dict[str, Any]:
        """Keep the models of the tasks that became better; return the best models' metrics.

        Args:
            values: The metrics of the current models.
        """
        names = list(self.benchmark.task_metrics)
        kept = dict(zip(names, self.best_metrics.tolist(), strict=True))
        baseline = self.benchmark.baseline.metrics
        for task in self.benchmark.tasks:
            new = {name: values[name] for name in task.higher_is_better}
            old = {name: kept[name] for name in task.higher_is_better}
            deltas = [sum(compute_metric_deltas(v, baseline, (task,)).values()) for v in (new, old)]
            if math.isnan(deltas[1]) or deltas[0] < deltas[1]:  # nothing is kept before epoch 1
                kept |= new
                self.best[task.name].load_state_dict(self.current[task.name].state_dict())
        self.best_metrics.copy_(torch.tensor([kept[name] for name in names], dtype=torch.float64))
        return self.benchmark.add_deltas(kept)
