"""Steps and episodes of all tasks in the simulator."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from core.reinforcement.replay import Transitions
from datasets.environments.base import ACTION_SIZE
from datasets.environments.simulators import Goal, TaskActions, make_simulators

Policy = Callable[[Tensor], Tensor]  # actions (k, a) for observations (k, o), both on the host


class Episodes(NamedTuple):
    """Results of evaluation, an entry per goal.

    Args:
        success: 1 where a step was a success, ``(n,)`` float32.
        returns: Sum of rewards up to the first success, ``(n,)`` float32.
    """

    success: Tensor
    returns: Tensor


class Collector:
    """Steps and evaluates one simulator per task.

    Args:
        tasks: The tasks' names.
        reward: Version of the reward.
        seed: The run's seed; every simulator has one of its own.
        per_process: Simulators of a process; none has processes of its own where it is all tasks.
    """

    def __init__(
        self, tasks: Sequence[str], reward: str, seed: int, per_process: int | None = None
    ) -> None:
        self.tasks = tasks
        children = np.random.SeedSequence([seed, len(tasks)]).spawn(len(tasks))
        seeds = [int(child.generate_state(1)[0]) for child in children]
        self._simulators = make_simulators(tasks, reward, seeds, per_process or len(tasks))
        self._observations = torch.zeros(0)
        self._actions = torch.zeros(0)
        self._steps = 0
        self._goals: Sequence[Sequence[Goal]] = ()
        self._generators: Sequence[Generator] = ()
        self._horizon = 0

    def begin_training(
        self, goals: Sequence[Sequence[Goal]], generators: Sequence[Generator], horizon: int
    ) -> None:
        """Begin new episodes, from which :meth:`take_step` goes on.

        Args:
            goals: The goals of each task.
            generators: Draws the goals of each task's episodes.
            horizon: Steps after which all episodes are cut off and new ones begin.
        """
        self._goals, self._generators, self._horizon = goals, generators, horizon
        self._begin_episodes()

    def _begin_episodes(self) -> None:
        drawn = [
            goals[int(torch.randint(len(goals), (1,), generator=generator))]
            for goals, generator in zip(self._goals, self._generators, strict=True)
        ]
        self._observations = self._begin_goals(drawn)
        self._steps = 0

    def _begin_goals(self, goals: Sequence[Goal]) -> Tensor:
        return torch.from_numpy(self._simulators.begin_episodes(goals))

    def start_step(self, policy: Policy) -> None:
        """Begin a step of every task, which :meth:`finish_step` ends."""
        self._actions = policy(self._observations)
        active = np.ones(len(self.tasks), np.bool_)
        self._simulators.start_steps(TaskActions(self._actions.numpy(), active))

    def finish_step(self) -> Transitions:
        """Return the transitions of the step, without the dimension of examples.

        The next observation of an episode that is cut off is its own last one, and it has not
        ended: Meta-World's tasks never end by themselves.
        """
        observations, results = self._observations, self._simulators.finish_steps()
        following = torch.from_numpy(results.observations)
        rewards = torch.from_numpy(results.rewards)
        self._observations = following
        self._steps += 1
        if self._steps == self._horizon:
            self._begin_episodes()
        return Transitions(
            observations, self._actions, rewards, following, torch.zeros(len(self.tasks))
        )

    def take_step(self, policy: Policy) -> Transitions:
        """Take a step of every task; return its transitions."""
        self.start_step(policy)
        return self.finish_step()

    def evaluate_goals(
        self, goals: Sequence[Sequence[Goal]], policy: Policy, horizon: int
    ) -> list[Episodes]:
        """Return the episodes of each task's goals, in order, of ``horizon`` steps.

        A task stops at its first success, as in Meta-World's own evaluation. Training begins
        new episodes afterwards.
        """
        success = np.zeros((len(goals[0]), len(self.tasks)), np.float32)
        returns = np.zeros_like(success)
        for number, current in enumerate(zip(*goals, strict=True)):
            observations = self._begin_goals(current)
            for _ in range(horizon):
                actions = policy(observations).numpy()
                self._simulators.start_steps(TaskActions(actions, success[number] == 0))
                results = self._simulators.finish_steps()
                observations = torch.from_numpy(results.observations)
                returns[number] += results.rewards
                success[number] += results.success
                if success[number].all():
                    break
        return [
            Episodes(torch.from_numpy(success[:, k].copy()), torch.from_numpy(returns[:, k].copy()))
            for k in range(len(self.tasks))
        ]


def draw_random_actions(observations: Tensor) -> Tensor:
    """Return uniform actions in [-1, 1], ``(k, a)``, by torch's generator."""
    return torch.rand(len(observations), ACTION_SIZE) * 2 - 1
