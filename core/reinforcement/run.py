"""One training run of reinforcement learning, epoch by epoch: the same interface as ``Run``."""

import math
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from core.recipe.component import make_weighting
from core.recipe.trial_key import TrialKey
from core.reinforcement.collector import Collector, draw_random_actions
from core.reinforcement.learner import Learner, LearnerConfig, UpdateResult
from core.reinforcement.replay import Replay, check_replay_memory, count_replay_bytes
from core.reinforcement.updater import WARM_UP_UPDATES, Updater
from core.training.context import make_generator
from core.training.epoch_row import EpochRow
from core.training.optimizers import read_learning_rate
from core.training.run import NotFinite
from core.training.run_state import EpochState, ReinforcementState
from core.training.step_statistics import StepStatistics
from core.weighting import GramWeighting
from datasets.benchmark import Benchmark, Meter
from datasets.environments.base import ACTION_SIZE, OBSERVATION_SIZE, EnvironmentBenchmark
from datasets.environments.config import ReinforcementConfig
from datasets.environments.simulators import Goal

PARTS = ("critic", "actor")
TIMED_STEPS, TIMED_UPDATES = 30, 5


class ReinforcementRun:
    """Trains one agent on all tasks of a benchmark, one epoch at a time.

    All randomness is a function of (seed, purpose, epoch), and every epoch begins new episodes. So
    a run that resumes from its state computes the same numbers, if the state has the replay.

    Args:
        key: The trial key, of which the run is a pure function.
        benchmark: The benchmark that the key names.
    """

    def __init__(self, key: TrialKey, benchmark: Benchmark) -> None:
        key.environment.configure_process()
        config = key.training_config
        assert isinstance(config, ReinforcementConfig)
        assert isinstance(benchmark, EnvironmentBenchmark)
        self.key = key
        self.benchmark = benchmark.configure(config)
        self.config = config.apply_protocol()
        self.device = torch.device(key.environment.device)
        self.epochs_done = 0
        check_replay_memory(self.config, len(self.tasks), self.device)
        torch.manual_seed(make_generator(key.seed, "model", 0).initial_seed())
        first, second = (make_weighting(key.recipe.weighting) for _ in PARTS)
        self.learner = Learner(
            make_learner_config(self.config, len(self.tasks)), first, second, self.tasks,
            self.device,
        )  # fmt: skip
        self.replay = Replay(
            len(self.tasks), self.config.capacity, OBSERVATION_SIZE, ACTION_SIZE, self.device
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return self.benchmark.tasks

    @cached_property
    def collector(self) -> Collector:
        """The simulators, made when first needed."""
        threads, tasks = self.key.environment.threads, len(self.tasks)
        per_process = self.config.envs_per_worker or math.ceil(tasks / threads)
        return Collector(self.tasks, self.config.reward, self.key.seed, per_process)

    @property
    def total_epochs(self) -> int:
        """The epochs of the run."""
        return self.config.epochs

    @property
    def steps_per_epoch(self) -> int:
        """The environment steps of each task in an epoch."""
        return self.config.epoch_steps

    @property
    def model(self) -> torch.nn.Module:
        """The actor."""
        return self.learner.actor

    def train_epoch(
        self, measure_training: bool = False, observe: Callable[[], None] | None = None
    ) -> EpochRow:
        """Train the next epoch and validate.

        Args:
            measure_training: Whether the row has the metrics of the training goals.
            observe: Called after validation.

        Raises:
            NotFinite: If a loss is NaN or infinite.
            ValueError: If all epochs are done.
        """
        if self.epochs_done >= self.total_epochs:
            raise ValueError("all epochs are done")
        start = time.perf_counter()
        lr = read_learning_rate(self.learner.actor_optimizer)
        summary = EpochSummary(self.tasks, self.device)
        for result in self.take_steps(self.steps_per_epoch):
            summary.add_update(result)
        weightings = (self.learner.critic_weighting, self.learner.actor_weighting)
        for weighting in weightings:
            weighting.on_epoch_end()
        losses = summary.mean_losses()
        wrong = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            number = self.epochs_done + 1
            raise NotFinite(f"loss not finite in epoch {number}: {', '.join(wrong)}")
        validation = self.evaluate_split("validation").compute_metrics()
        training = self.evaluate_split("train").compute_metrics() if measure_training else None
        if observe is not None:
            observe()
        self.epochs_done += 1
        weights, conflicts = summary.summarize()
        flags = [int(w.flagged_steps) for w in weightings if isinstance(w, GramWeighting)]
        return EpochRow(
            epoch=self.epochs_done,
            stage=0,
            stage_epoch=self.epochs_done - 1,
            eligible=True,
            final=self.epochs_done == self.total_epochs,
            losses=losses,
            lr=lr,
            steps=summary.updates,
            validation=validation,
            flagged=sum(flags) if flags else None,
            weights=weights,
            conflicts=conflicts,
            training=training,
            devices=1.0 if self.device.type == "cuda" else self.key.environment.threads,
            seconds=time.perf_counter() - start,
        )

    def take_steps(self, count: int) -> Iterator[UpdateResult]:
        """Take the first steps of the next epoch; yield the result of every update."""
        config, epoch, seed = self.config, self.epochs_done, self.key.seed
        torch.manual_seed(make_generator(seed, "round", 0, epoch).initial_seed())
        generators = [make_generator(seed, f"goals of {task}", 0, epoch) for task in self.tasks]
        self.collector.begin_training(self.list_goals("train"), generators, config.horizon)
        # Made anew in every epoch, between which states are loaded and weightings change.
        updater = Updater(self.learner, self.replay, config.batch_size)
        for step in range(count):
            is_random = epoch * config.epoch_steps + step < config.start_steps
            policy = draw_random_actions if is_random else self._choose_actions
            updates = 0 if is_random else config.updates_per_step
            overlaps = config.asynchronous and len(self.replay) > 0
            self.collector.start_step(policy)
            if not overlaps:
                self.replay.add_transitions(self.collector.finish_step())
            for _ in range(updates):
                yield updater.update()
            if overlaps:
                self.replay.add_transitions(self.collector.finish_step())

    def measure_epoch_seconds(self) -> float:
        """Return the seconds of an epoch, from a few steps with and without updates.

        The run can only be measured afterwards.
        """
        config = self.config
        list(self.take_steps(0))  # makes the simulators and begins episodes
        start = time.perf_counter()
        for _ in range(TIMED_STEPS):
            self.replay.add_transitions(self.collector.take_step(self._choose_actions))
        stepping = (time.perf_counter() - start) / TIMED_STEPS
        updater = Updater(self.learner, self.replay, config.batch_size)
        for _ in range(WARM_UP_UPDATES + 1 if updater.uses_graph else 0):
            updater.update()
        self._wait_for_device()
        start = time.perf_counter()
        for _ in range(TIMED_UPDATES):
            updater.update()
        self._wait_for_device()
        updating = (time.perf_counter() - start) / TIMED_UPDATES * config.updates_per_step
        goals = len(self.benchmark.validation_split) / len(self.tasks)
        evaluation = goals * self.benchmark.evaluation_horizon * stepping
        return config.epoch_steps * (stepping + updating) + evaluation

    def _wait_for_device(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def count_state_bytes(self) -> int:
        """Return the size of a state whose replay is full, without the learner's part."""
        if not self.config.keep_replay:
            return 0
        sizes = (OBSERVATION_SIZE, ACTION_SIZE)
        return count_replay_bytes(len(self.tasks), self.config.capacity, *sizes)

    def _choose_actions(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Return actions, ``(k, a)``, for observations, ``(k, o)``, both on the host."""
        on_device = observations.to(self.device)[:, None]
        return self.learner.choose_actions(on_device, deterministic)[:, 0].cpu()

    def choose_likeliest(self, observations: Tensor) -> Tensor:
        """Return the actions of evaluation, ``(k, a)``, for observations, ``(k, o)``."""
        return self._choose_actions(observations, deterministic=True)

    def list_goals(self, split: str) -> list[list[Goal]]:
        """Return the goals of a split by task."""
        rows = self.benchmark.splits[split].inputs[torch.arange(len(self.benchmark.splits[split]))]
        goals: list[list[Goal]] = [[] for _ in self.tasks]
        for task, seed, number in rows.tolist():
            goals[task].append(Goal(seed, number))
        return goals

    def evaluate_split(
        self, split: str, batch_averaged: bool = False, max_batches: int | None = None
    ) -> Meter:
        """Return a meter of an episode for each goal of a split.

        Args:
            split: The split's name.
            batch_averaged: Has no effect.
            max_batches: The first goals of each task only; None for all.
        """
        goals = [of_task[:max_batches] for of_task in self.list_goals(split)]
        horizon = self.benchmark.evaluation_horizon
        found = self.collector.evaluate_goals(goals, self.choose_likeliest, horizon)
        meter = self.benchmark.make_meter(split)
        tasks = self.benchmark.list_goal_tasks(split)
        for task, episodes in enumerate(found):
            rows = (tasks == task).nonzero().flatten()[: len(episodes.success)]
            meter.update(rows, {"success": episodes.success, "return": episodes.returns}, {})
        return meter

    def make_state(self) -> ReinforcementState:
        """Return the state on which the next epochs depend."""
        replay = self.replay.state_dict() if self.config.keep_replay else None
        return ReinforcementState(self.epochs_done, self.learner.state_dict(), replay)

    def load_state(self, state: EpochState) -> None:
        """Resume from the state that :meth:`make_state` returned; without a replay, to evaluate."""
        assert isinstance(state, ReinforcementState)
        self.epochs_done = state.epochs_done
        self.learner.load_state_dict(state.learner)
        if state.replay is not None:
            self.replay.load_state_dict(state.replay)

    def can_resume(self, state: EpochState) -> bool:
        """Return whether training can go on from a state: whether it has the replay."""
        return isinstance(state, ReinforcementState) and state.replay is not None


class EpochSummary:
    """Losses, weights and gradients of an epoch's updates, without waiting for the device.

    Args:
        tasks: The tasks' names.
        device: The losses' device.
    """

    def __init__(self, tasks: tuple[str, ...], device: torch.device) -> None:
        self.updates = 0
        self._names = [f"{part}_{task}" for part in PARTS for task in tasks]
        self._totals = torch.zeros(len(self._names), dtype=torch.float64, device=device)
        self._statistics = [
            StepStatistics([f"{part}_{task}" for task in tasks], device) for part in PARTS
        ]

    def add_update(self, result: UpdateResult) -> None:
        """Take an update in."""
        self.updates += 1
        self._totals += torch.cat([result.critic_losses, result.actor_losses])
        for part, statistics in zip((result.critic, result.actor), self._statistics, strict=True):
            statistics.add_step(part.weights, part.gram, None)

    def mean_losses(self) -> dict[str, float]:
        """Return the mean of each loss; empty without an update."""
        if not self.updates:
            return {}
        means = (self._totals / self.updates).tolist()
        return dict(zip(self._names, means, strict=True))

    def summarize(self) -> tuple[dict[str, dict[str, float]] | None, dict[str, Any] | None]:
        """Return the weights of the losses, and the conflicts of the gradients."""
        found = [statistics.summarize() for statistics in self._statistics]
        weights = {name: of for part, _ in found for name, of in (part or {}).items()}
        conflicts = [part for _, part in found if part is not None]
        if not conflicts:
            return weights or None, None
        norms = {name: norm for part in conflicts for name, norm in part["norms"].items()}
        shares = [s for part in conflicts if (s := part["negative_cosines"]) is not None]
        mean = sum(shares) / len(shares) if shares else None
        return weights or None, {"negative_cosines": mean, "norms": norms}


def make_learner_config(config: ReinforcementConfig, tasks: int) -> LearnerConfig:
    """Return the learner's part of a training config."""
    return LearnerConfig(
        tasks=tasks,
        observation_size=OBSERVATION_SIZE,
        action_size=ACTION_SIZE,
        width=config.width,
        critic_width=config.critic_width or config.width,
        depth=config.depth,
        sharing=config.sharing,
        shared_temperature=config.shared_temperature,
        lr=config.lr,
        temperature_lr=config.temperature_lr,
        initial_temperature=config.initial_temperature,
        gamma=config.discount,
        tau=config.tau,
        clip_norm=config.clip_norm,
        clip_shared=config.clip == "shared",
        times_losses=config.times_losses,
        weighted_heads=config.weighted_heads,
    )
