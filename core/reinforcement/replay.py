"""Replay memory with a ring of transitions per task, on the learner's device."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from common.text import format_count
from datasets.environments.base import ACTION_SIZE, OBSERVATION_SIZE
from datasets.environments.config import ReinforcementConfig


class Transitions(NamedTuple):
    """Transitions of all tasks.

    Args:
        observations: ``(k, b, o)``.
        actions: ``(k, b, a)``.
        rewards: ``(k, b)``.
        next_observations: ``(k, b, o)``; the last of an episode is its own, never the first of the
            next episode.
        ended: 1 where the task ended the episode, 0 elsewhere, ``(k, b)``: an episode that its
            horizon cut off has not ended.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    ended: Tensor


class Replay:
    """The latest transitions of each task.

    Every task gets one transition a step, so all rings are equally full.

    Args:
        tasks: Number of tasks, ``k``.
        capacity: Transitions kept per task.
        observation_size: Numbers per observation.
        action_size: Numbers per action.
        device: Where they are kept.
        dtype: Type of the numbers.
    """

    def __init__(
        self,
        tasks: int,
        capacity: int,
        observation_size: int,
        action_size: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        def allocate(*size: int) -> Tensor:
            return torch.zeros(tasks, capacity, *size, device=device, dtype=dtype)

        self.capacity = capacity
        self._stored = Transitions(
            allocate(observation_size),
            allocate(action_size),
            allocate(),
            allocate(observation_size),
            allocate(),
        )
        self._added = 0
        self._size = torch.zeros((), device=device)  # there, so that drawing does not wait
        self._tasks = torch.arange(tasks, device=device)[:, None]

    def __len__(self) -> int:
        """Return the number of transitions of each task."""
        return min(self._added, self.capacity)

    def add_transitions(self, transitions: Transitions) -> None:
        """Add one transition of each task: entries ``(k, ...)`` without the dimension ``b``."""
        place = self._added % self.capacity
        for stored, values in zip(self._stored, transitions, strict=True):
            stored[:, place] = values.to(stored, non_blocking=True)
        self._added += 1
        self._size.fill_(len(self))

    def draw_transitions(self, count: int) -> Transitions:
        """Draw ``count`` transitions of every task, with replacement, by torch's generator.

        Does not wait for the device.
        """
        shape = (len(self._tasks), count)
        uniform = torch.rand(shape, device=self._size.device, dtype=torch.float64)
        index = (uniform * self._size).long()  # below the size, as float64 cannot round up to it
        return Transitions(*(stored[self._tasks, index] for stored in self._stored))

    def state_dict(self) -> dict[str, Any]:
        """Return the transitions and their number."""
        filled = len(self)
        stored = {
            name: values[:, :filled].clone() for name, values in self._stored._asdict().items()
        }
        return {"added": self._added, **stored}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` returned."""
        added = state["added"]
        assert isinstance(added, int)
        self._added = added
        for name, stored in self._stored._asdict().items():
            values = state[name]
            assert isinstance(values, Tensor)
            stored[:, : values.shape[1]] = values.to(stored)
        self._size.fill_(len(self))


def check_replay_memory(config: ReinforcementConfig, tasks: int, device: torch.device) -> None:
    """Refuse a replay that is larger than the device's memory.

    Raises:
        UserError: If it does not.
    """
    needed = count_replay_bytes(tasks, config.capacity, OBSERVATION_SIZE, ACTION_SIZE)
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[1]
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UserError(
            f"capacity: received {config.capacity:,}: the replay of {format_count(tasks, 'task')} "
            f"would take {needed / 1e9:.1f} GB, and the device has {memory / 1e9:.1f} GB; use a "
            "smaller capacity"
        )


def count_replay_bytes(
    tasks: int, capacity: int, observation_size: int, action_size: int, bytes_per_number: int = 4
) -> int:
    """Return the memory of a replay, in bytes."""
    numbers = 2 * observation_size + action_size + 2
    return tasks * capacity * numbers * bytes_per_number
