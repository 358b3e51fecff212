"""``mt10``: Meta-World's 10 tasks at once."""

from datasets.environments.base import BASE_CONFIG, EnvironmentBenchmark, make_card
from datasets.environments.task_names import MT10


class MT10Tasks(EnvironmentBenchmark):
    """The 10 tasks of MT10, V3: 2 million steps of each by default."""

    name = "mt10"
    tasks = MT10
    training_config = BASE_CONFIG
    card = make_card("10 tasks of a simulated robot arm, with 50 goals each.")
