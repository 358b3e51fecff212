"""The simulators of all tasks, in this process or spread over processes of their own.

Gymnasium's vector environments have a process for each environment; here one serves several, for a
step takes little more time than handing it over.
"""

import multiprocessing
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.environments.simulator import Array, TaskSimulator, list_goals

ENDED = "a process of simulators has ended: was it killed for memory?"


class Goal(NamedTuple):
    """A goal of a task: the seed of its list, and its number there."""

    seed: int
    number: int


class TaskActions(NamedTuple):
    """Actions of a step.

    Args:
        actions: In [-1, 1], ``(k, 4)`` float32.
        active: Which tasks take the step, ``(k,)`` bool.
    """

    actions: Array
    active: NDArray[np.bool_]


class StepResults(NamedTuple):
    """Results of a step, 0 for tasks that did not take it.

    Args:
        observations: The next observations, ``(k, 39)`` float32.
        rewards: ``(k,)`` float32.
        success: 1 where a task is solved at this step, ``(k,)`` float32.
    """

    observations: Array
    rewards: Array
    success: Array


class Simulators(Protocol):
    """One simulator per task. An episode depends on its goal and actions alone."""

    def begin_episodes(self, goals: Sequence[Goal]) -> Array:
        """Return the first observations, ``(k, 39)``, of an episode of each task's goal."""
        ...

    def start_steps(self, given: TaskActions) -> None:
        """Begin a step of the active tasks, which :meth:`finish_steps` ends."""
        ...

    def finish_steps(self) -> StepResults:
        """Return the results of the step that has begun."""
        ...


class LocalSimulators:
    """The simulators in this process.

    Args:
        tasks: The tasks' names.
        reward: Version of the reward.
        seeds: A seed for each simulator.
    """

    def __init__(self, tasks: Sequence[str], reward: str, seeds: Sequence[int]) -> None:
        self._simulators = [
            TaskSimulator(task, reward, seed) for task, seed in zip(tasks, seeds, strict=True)
        ]
        count = len(tasks)
        self._given = TaskActions(np.zeros((count, 4), np.float32), np.zeros(count, np.bool_))
        self._observations = np.zeros((count, 39), np.float32)

    def begin_episodes(self, goals: Sequence[Goal]) -> Array:
        """Return the first observations, ``(k, 39)``, of an episode of each task's goal."""
        for k, (simulator, goal) in enumerate(zip(self._simulators, goals, strict=True)):
            chosen = list_goals(simulator.task, goal.seed)[goal.number]
            self._observations[k] = simulator.begin_episode(chosen)
        return self._observations.copy()

    def start_steps(self, given: TaskActions) -> None:
        """Keep the actions: the step is taken when its results are asked for."""
        self._given = given

    def finish_steps(self) -> StepResults:
        """Take the step and return its results."""
        count = len(self._simulators)
        rewards, success = np.zeros(count, np.float32), np.zeros(count, np.float32)
        for k in np.flatnonzero(self._given.active):
            result = self._simulators[k].take_step(self._given.actions[k])
            self._observations[k] = result.observation
            rewards[k], success[k] = result.reward, result.success
        return StepResults(self._observations.copy(), rewards, success)


class SpreadSimulators:
    """The simulators in processes of their own, which end with this one.

    Args:
        tasks: The tasks' names.
        reward: Version of the reward.
        seeds: A seed for each simulator.
        per_process: Simulators of a process.
    """

    def __init__(
        self, tasks: Sequence[str], reward: str, seeds: Sequence[int], per_process: int
    ) -> None:
        context = multiprocessing.get_context("spawn")  # neither CUDA nor threads outlive a fork
        firsts = range(0, len(tasks), per_process)
        self._parts = [slice(first, first + per_process) for first in firsts]
        self._connections: list[Connection] = []
        for part in self._parts:
            ours, theirs = context.Pipe()
            arguments = (theirs, tasks[part], reward, seeds[part])
            context.Process(target=serve_simulators, args=arguments, daemon=True).start()
            theirs.close()
            self._connections.append(ours)

    def begin_episodes(self, goals: Sequence[Goal]) -> Array:
        """Return the first observations, ``(k, 39)``, of an episode of each task's goal."""
        for connection, part in zip(self._connections, self._parts, strict=True):
            send_request(connection, "begin_episodes", goals[part])
        return np.concatenate([receive_reply(connection) for connection in self._connections])

    def start_steps(self, given: TaskActions) -> None:
        """Have all processes take a step of the active tasks."""
        for connection, part in zip(self._connections, self._parts, strict=True):
            actions = TaskActions(given.actions[part], given.active[part])
            send_request(connection, "take_steps", actions)

    def finish_steps(self) -> StepResults:
        """Wait for the results of the step."""
        parts = [receive_reply(connection) for connection in self._connections]
        return StepResults(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def make_simulators(
    tasks: Sequence[str], reward: str, seeds: Sequence[int], per_process: int
) -> Simulators:
    """Return the simulators of tasks, in processes of their own if one is not to have them all."""
    if per_process >= len(tasks):
        return LocalSimulators(tasks, reward, seeds)
    return SpreadSimulators(tasks, reward, seeds, per_process)


def send_request(connection: Connection, name: str, given: Sequence[Goal] | TaskActions) -> None:
    """Ask a process for new episodes or for a step.

    Raises:
        RuntimeError: If the process has ended.
    """
    try:
        connection.send((name, given))
    except OSError:
        raise RuntimeError(ENDED) from None


def receive_reply(connection: Connection) -> Any:
    """Return what a process answers.

    Raises:
        RuntimeError: If the process has ended.
    """
    try:
        reply = connection.recv()
    except (EOFError, OSError):
        raise RuntimeError(ENDED) from None
    if isinstance(reply, Exception):
        raise reply
    return reply


def serve_simulators(
    connection: Connection, tasks: Sequence[str], reward: str, seeds: Sequence[int]
) -> None:
    """Answer requests until the other side is gone; errors are answers too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run, interrupted too, decides
    simulators: LocalSimulators | None = None
    while True:
        try:
            name, given = connection.recv()
        except (EOFError, OSError):
            return
        try:
            simulators = simulators or LocalSimulators(tasks, reward, seeds)
            if name == "begin_episodes":
                connection.send(simulators.begin_episodes(given))
            else:
                simulators.start_steps(given)
                connection.send(simulators.finish_steps())
        except Exception as error:
            connection.send(error)
