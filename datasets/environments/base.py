"""Benchmarks of several tasks in a simulator, judged by success on goals not trained on.

The examples of a split are its goals, so that splits need no simulator: a row has a task, the seed
with which the simulator draws that task's goals, and the goal's number among these.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from common.errors import UserError
from common.hyperparameters import Hyperparameter
from datasets.benchmark import Benchmark, Meter, Outputs, Split
from datasets.data_card import DataCard
from datasets.environments.config import ReinforcementConfig
from datasets.environments.simulator import GOALS, import_metaworld
from datasets.environments.task_names import MT50
from datasets.training_config import TrainingConfig

OBSERVATION_SIZE, ACTION_SIZE = 39, 4
EVALUATION_HORIZON = 500
# Added to a task's number among the 50: no two tasks or splits draw goals with one seed.
GOAL_SEEDS = {"train": 10_000, "validation": 20_000, "test": 30_000}


class EnvironmentBenchmark(Benchmark):
    """Tasks of Meta-World V3.

    Metrics of a split are ``success`` (the mean of the tasks' success rates, an episode being a
    success if any of its steps is), ``worst_task_success``, ``mean_return`` (undiscounted), and
    each task's ``success_NAME`` and ``return_NAME``.
    """

    version = "1"
    tasks: tuple[str, ...]
    training_config: ClassVar[ReinforcementConfig]
    search_space: ClassVar[Mapping[str, Hyperparameter]] = {
        "lr": Hyperparameter("log_uniform", (1e-4, 1e-3), 3e-4),
        "batch_size": Hyperparameter("choice", (64, 128, 256), 128),
    }
    default_selection_rule = "validation_success"
    reported_metrics = ("success", "worst_task_success")
    as_percent = True
    provides = frozenset({"tasks", "environments"})
    card: ClassVar[DataCard]

    def __init__(self, data_root: Path) -> None:
        super().__init__(data_root)
        self.config: ReinforcementConfig = self.training_config

    @property
    def output_sizes(self) -> dict[str, int]:
        """The numbers of an action, by task."""
        return dict.fromkeys(self.tasks, ACTION_SIZE)

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks, which are those of their losses."""
        return self.tasks

    @property
    def higher_is_better(self) -> dict[str, bool]:  # type: ignore[override]
        """All metrics: higher is better."""
        own = [f"{metric}_{task}" for metric in ("success", "return") for task in self.tasks]
        return dict.fromkeys(("success", "worst_task_success", "mean_return", *own), True)

    def configure(self, config: TrainingConfig) -> "EnvironmentBenchmark":
        """Return the benchmark with the tasks, goals and protocol of a config.

        Raises:
            UserError: If the config names an unknown task.
        """
        assert isinstance(config, ReinforcementConfig)
        made = type(self)(self.data_root)
        made.config = config
        made.tasks = self.choose_tasks(config)
        return made

    def choose_tasks(self, config: ReinforcementConfig) -> tuple[str, ...]:
        """Return the tasks of a config.

        Raises:
            UserError: If the config names tasks, and the benchmark has all of its own.
        """
        if config.task:
            raise UserError(f"task: received '{config.task}': data set '{self.name}' has its own; "
                            "mt1 takes a task")  # fmt: skip
        return self.tasks

    def load_splits(self) -> dict[str, Split]:
        """Return the goals of each split: rows of task, seed and number, ``(n, 3)`` int64."""
        count = self.config.evaluation_goals
        splits = {}
        for name, seed in GOAL_SEEDS.items():
            goals = GOALS if name == "train" else count
            if self.config.protocol == "system2":  # one goal, trained and evaluated on
                goals, seed = 1, GOAL_SEEDS["train"]
            rows = [
                (number, seed + MT50.index(task), goal)
                for number, task in enumerate(self.tasks)
                for goal in range(goals)
            ]
            inputs = torch.tensor(rows)
            splits[name] = Split(inputs, {"task": inputs[:, 0].clone()})
        return splits

    def check_requirements(self) -> None:
        """Refuse a machine without the simulator.

        Raises:
            UserError: If it is missing.
        """
        import_metaworld()

    @property
    def evaluation_horizon(self) -> int:
        """The steps of an episode in evaluation."""
        return 150 if self.config.protocol == "system2" else EVALUATION_HORIZON

    def list_goal_tasks(self, split: str) -> Tensor:
        """Return the number of the task of each goal of a split, ``(goals,)`` int64."""
        return self.splits[split].targets["task"]

    def make_meter(self, split: str) -> "EpisodeMeter":
        """Return a meter of success and return."""
        return EpisodeMeter(self, split)


class EpisodeMeter(Meter):
    """Collects the episodes of a split, one per goal.

    Args:
        benchmark: The benchmark.
        split: The split's name.
    """

    def __init__(self, benchmark: EnvironmentBenchmark, split: str) -> None:
        self._benchmark = benchmark
        self._tasks = benchmark.list_goal_tasks(split)
        self._index: list[Tensor] = []
        self._success: list[Tensor] = []
        self._returns: list[Tensor] = []

    def update(self, index: Tensor, outputs: Outputs, targets: Mapping[str, Tensor]) -> None:
        """Add episodes: ``success``, 0 or 1, and ``return``, ``(b,)`` each."""
        assert not isinstance(outputs, Tensor)
        self._index.append(index)
        self._success.append(outputs["success"])
        self._returns.append(outputs["return"])

    def compute_metrics(self) -> dict[str, Any]:
        """Return success and return of all tasks and of each."""
        names = self._benchmark.tasks
        task = self._tasks[torch.cat(self._index)]
        count = torch.bincount(task, minlength=len(names)).double()

        def average_by_task(parts: list[Tensor]) -> list[float]:
            values = torch.cat(parts).double()
            sums = torch.bincount(task, weights=values, minlength=len(names))
            averages: list[float] = (sums / count).tolist()
            return averages

        successes, returns = average_by_task(self._success), average_by_task(self._returns)
        by_task = {f"success_{n}": value for n, value in zip(names, successes, strict=True)}
        by_task |= {f"return_{n}": value for n, value in zip(names, returns, strict=True)}
        return {
            "success": sum(successes) / len(successes),
            "worst_task_success": min(successes),
            "mean_return": sum(returns) / len(returns),
            **by_task,
        }

    def collect_predictions(self) -> dict[str, Tensor]:
        """Return task, success and return of each episode, in the order of the goals."""
        index = torch.cat(self._index)
        order = index.argsort()
        return {
            "index": index[order],
            "task": self._tasks[index[order]],
            "success": torch.cat(self._success)[order],
            "return": torch.cat(self._returns)[order],
        }


BASE_CONFIG = ReinforcementConfig(
    model="soft_actor_critic",
    epochs=100,
    lr=3e-4,
    weight_decay=0.0,
    batch_size=128,
    optimizer="adam",
    clip_norm=1.0,
)
NOTES = (
    "Success is at any step of an episode of 500 steps with the likeliest actions; validation and "
    "test have 50 goals per task each, and neither is trained on.",
    "Published figures of System 2 (FairGrad's paper) are on Meta-World v1, whose tasks, "
    "observations and episodes differ: V3 and v1 figures do not compare. protocol=system2 has that "
    "paper's horizon, fixed goals and networks without a task id, on V3's tasks.",
    "It needs the simulator: pip install --no-deps --require-hashes -r requirements-metaworld.txt",
)


def make_card(title: str) -> DataCard:
    """Return the data card of a set of tasks."""
    return DataCard(
        title=title,
        source="simulated by Meta-World 3.1.1 (MuJoCo 3.3.0)",
        license="MIT (Meta-World), Apache-2.0 (MuJoCo)",
        paper="McLean et al., Meta-World+, 2025; Yu et al., Meta-World, CoRL 2019",
        notes=NOTES,
    )
