"""``mt50``: Meta-World's 50 tasks at once."""

from datasets.environments.base import BASE_CONFIG, EnvironmentBenchmark, make_card
from datasets.environments.task_names import MT50


class MT50Tasks(EnvironmentBenchmark):
    """The 50 tasks of MT50, V3: 2 million steps of each by default."""

    name = "mt50"
    tasks = MT50
    training_config = BASE_CONFIG
    card = make_card("50 tasks of a simulated robot arm, with 50 goals each.")
