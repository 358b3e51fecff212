"""``mt25``: Meta-World's 25 tasks at once."""

from datasets.environments.base import BASE_CONFIG, EnvironmentBenchmark, make_card
from datasets.environments.task_names import MT25


class MT25Tasks(EnvironmentBenchmark):
    """The 25 tasks of MT25, V3: 2 million steps of each by default."""

    name = "mt25"
    tasks = MT25
    training_config = BASE_CONFIG
    card = make_card("25 tasks of a simulated robot arm, with 50 goals each.")
