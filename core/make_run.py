"""Make the run of a key: supervised training or reinforcement learning."""

from core.recipe.trial_key import TrialKey
from core.reinforcement.run import ReinforcementRun
from core.training.run import Run
from datasets.benchmark import Benchmark
from datasets.environments.base import EnvironmentBenchmark

AnyRun = Run | ReinforcementRun


def make_run(key: TrialKey, benchmark: Benchmark) -> AnyRun:
    """Return a new run.

    Args:
        key: The trial key, of which the run is a pure function.
        benchmark: The benchmark that the key names.
    """
    if isinstance(benchmark, EnvironmentBenchmark):
        return ReinforcementRun(key, benchmark)
    return Run(key, benchmark)
