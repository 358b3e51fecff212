"""``mt1``: any one of Meta-World's tasks, or a few of them."""

from dataclasses import replace

from common.errors import UserError, unknown_name_message
from datasets.environments.base import BASE_CONFIG, EnvironmentBenchmark, make_card
from datasets.environments.config import ReinforcementConfig
from datasets.environments.task_names import MT50


class MT1Task(EnvironmentBenchmark):
    """The task that ``task`` names, or several of them joined by ``+``."""

    name = "mt1"
    tasks = ("reach-v3",)
    training_config = replace(BASE_CONFIG, task="reach-v3")
    card = make_card("One task of a simulated robot arm, or a few, with 50 goals each.")

    def choose_tasks(self, config: ReinforcementConfig) -> tuple[str, ...]:
        """Return the tasks that a config names.

        Raises:
            UserError: If it names an unknown task, or one twice.
        """
        names = tuple(config.task.split("+"))
        for name in names:
            if name not in MT50:
                raise UserError(f"task: {unknown_name_message('task', name, MT50)}")
        if len(set(names)) < len(names):
            raise UserError(f"task: received '{config.task}', which names a task twice")
        return names
