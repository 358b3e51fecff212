"""A video of an episode of evaluation."""

from pathlib import Path

import torch
from PIL import Image

from core.reinforcement.run import ReinforcementRun
from datasets.environments.simulator import TaskSimulator, list_goals

STEPS_PER_FRAME = 8
FRAME_MILLISECONDS = 100  # 80 steps a second, as the simulator has
STEPS_AFTER_SUCCESS = 20


def write_video(run: ReinforcementRun, task: str, path: Path) -> bool:
    """Write an episode of a task's first validation goal as an animated GIF.

    Args:
        run: The run, whose actor acts by its likeliest actions.
        task: One of the run's tasks.
        path: The file.

    Returns:
        Whether the episode was a success.

    Raises:
        UserError: If there is no graphics library.
    """
    number = run.tasks.index(task)
    goal = run.list_goals("validation")[number][0]
    simulator = TaskSimulator(task, run.config.reward, 0)
    observations = torch.zeros(len(run.tasks), run.learner.config.observation_size)
    observation = simulator.begin_episode(list_goals(task, goal.seed)[goal.number])
    draw_frame = simulator.make_renderer()
    frames = [Image.fromarray(draw_frame())]
    success_step: int | None = None
    for step in range(1, run.benchmark.evaluation_horizon + 1):
        observations[number] = torch.from_numpy(observation)
        result = simulator.take_step(run.choose_likeliest(observations)[number].numpy())
        observation = result.observation
        if step % STEPS_PER_FRAME == 0:
            frames.append(Image.fromarray(draw_frame()))
        if result.success and success_step is None:
            success_step = step
        if success_step is not None and step >= success_step + STEPS_AFTER_SUCCESS:
            break
    simulator.close()
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0
    )
    return success_step is not None
