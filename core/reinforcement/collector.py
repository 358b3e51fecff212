"""Steps and episodes of all tasks in the simulator."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from core.reinforcement.replay import Transitions
from datasets.environments.base import ACTION_SIZE
from datasets.environments.simulator import TaskSimulator, list_goals

Policy = Callable[[Tensor], Tensor]  # actions (k, a) for observations (k, o), both on the host


class Goal(NamedTuple):
    """A goal of a task: the seed of its list, and its number there."""

    seed: int
    number: int


class Episodes(NamedTuple):
    """Results of evaluation, an entry per goal.

    Args:
        success: 1 where a step was a success, ``(n,)`` float32.
        returns: Sum of rewards up to the first success, ``(n,)`` float32.
    """

    success: Tensor
    returns: Tensor


class Collector:
    """One simulator per task.

    Args:
        tasks: The tasks' names.
        reward: Version of the reward.
        seed: The run's seed; every simulator has one of its own.
    """

    def __init__(self, tasks: Sequence[str], reward: str, seed: int) -> None:
        self.tasks = tasks
        sequence = np.random.SeedSequence([seed, len(tasks)])
        self._simulators = [
            TaskSimulator(task, reward, int(child.generate_state(1)[0]))
            for task, child in zip(tasks, sequence.spawn(len(tasks)), strict=True)
        ]
        self._observations = torch.zeros(0)
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
        found = [
            simulator.begin_episode(list_goals(task, goal.seed)[goal.number])
            for task, simulator, goal in zip(self.tasks, self._simulators, goals, strict=True)
        ]
        return torch.from_numpy(np.stack(found))

    def take_step(self, policy: Policy) -> Transitions:
        """Take a step of every task; return its transitions, without the dimension of examples.

        The next observation of an episode that is cut off is its own last one, and it has not
        ended: Meta-World's tasks never end by themselves.
        """
        observations = self._observations
        actions = policy(observations)
        results = [
            simulator.take_step(action)
            for simulator, action in zip(self._simulators, actions.numpy(), strict=True)
        ]
        following = torch.from_numpy(np.stack([result.observation for result in results]))
        rewards = torch.tensor([result.reward for result in results])
        self._observations = following
        self._steps += 1
        if self._steps == self._horizon:
            self._begin_episodes()
        return Transitions(observations, actions, rewards, following, torch.zeros(len(results)))

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
                for k, simulator in enumerate(self._simulators):
                    if success[number, k]:
                        continue
                    result = simulator.take_step(actions[k])
                    observations[k] = torch.from_numpy(result.observation)
                    returns[number, k] += result.reward
                    success[number, k] = result.success
                if success[number].all():
                    break
        return [
            Episodes(torch.from_numpy(success[:, k].copy()), torch.from_numpy(returns[:, k].copy()))
            for k in range(len(self.tasks))
        ]


def draw_random_actions(observations: Tensor) -> Tensor:
    """Return uniform actions in [-1, 1], ``(k, a)``, by torch's generator."""
    return torch.rand(len(observations), ACTION_SIZE) * 2 - 1
