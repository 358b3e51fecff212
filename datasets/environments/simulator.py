"""Meta-World's simulator: the one file that imports it, and only when an environment is made.

McLean et al., Meta-World+: An Improved, Standardized, RL Benchmark, 2025.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from datasets.environments.rendering import (
    Frame,
    check_graphics_setting,
    make_frame_renderer,
)

INSTALL = "pip install --no-deps --require-hashes -r requirements-metaworld.txt"
GOALS = 50  # that Meta-World draws of a task with one seed

Array = NDArray[np.float32]


class StepResult(NamedTuple):
    """The result of a step.

    Args:
        observation: The next observation, ``(39,)``.
        reward: The reward.
        success: Whether the task is solved at this step.
    """

    observation: Array
    reward: float
    success: bool


def import_metaworld() -> Any:
    """Return the library.

    Raises:
        UserError: If it is not installed, or ``MUJOCO_GL`` names a library that is not there.
    """
    check_graphics_setting()
    try:
        import metaworld
    except ImportError as error:
        raise UserError(
            f"Meta-World cannot be imported ({error}); its data sets need: {INSTALL}"
        ) from None
    return metaworld


@cache
def list_goals(task: str, seed: int) -> tuple[Any, ...]:
    """Return the goals that Meta-World draws of a task with a seed.

    Args:
        task: A name such as ``reach-v3``.
        seed: The seed of the goals.
    """
    return tuple(import_metaworld().MT1(task, seed=seed).train_tasks)


class TaskSimulator:
    """One task, episode by episode. An episode depends on its goal and actions alone.

    Args:
        task: A name such as ``reach-v3``.
        reward: Version of the reward, ``v1`` or ``v2``.
        seed: Seed of what the simulator itself may draw.
    """

    def __init__(self, task: str, reward: str, seed: int) -> None:
        made = import_metaworld().ALL_V3_ENVIRONMENTS[task]
        self._simulator = made(reward_function_version=reward)
        self.task = task
        self._seed = seed
        self._is_seeded = False

    def begin_episode(self, goal: Any) -> Array:
        """Return the first observation, ``(39,)``, of an episode with a goal of the task."""
        self._simulator.set_task(goal)
        if not self._is_seeded:  # only now it has the space of goals, which is seeded too
            self._simulator.seed(self._seed)
            self._is_seeded = True
        observation, _ = self._simulator.reset()
        return np.asarray(observation, np.float32)

    def take_step(self, action: Array) -> StepResult:
        """Take a step with an action, ``(4,)`` in [-1, 1]; an episode has at most 500."""
        observation, reward, _, _, info = self._simulator.step(action)
        success = bool(info["success"])
        return StepResult(np.asarray(observation, np.float32), float(reward), success)

    def make_renderer(self) -> Callable[[], Frame]:
        """Return a function that draws the present state.

        Raises:
            UserError: If the graphics library cannot draw.
        """
        return make_frame_renderer(self._simulator)

    def close(self) -> None:
        """Free the simulator."""
        self._simulator.close()
