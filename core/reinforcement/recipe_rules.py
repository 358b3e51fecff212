"""Which recipes and training configs reinforcement learning can take."""

from core.recipe.recipe import Recipe
from datasets.benchmark import Benchmark
from datasets.environments.config import ReinforcementConfig, find_unread_field

PARTS = {"sampler": "uniform", "objectives": "task_losses", "stages": "train"}


def check_reinforcement(recipe: Recipe, config: ReinforcementConfig, benchmark: Benchmark) -> None:
    """Refuse what would have no effect, or no meaning, in reinforcement learning.

    Args:
        recipe: The recipe with values.
        config: The training config.
        benchmark: The benchmark.

    Raises:
        ValueError: If the recipe has parts of supervised training, or the config a field of it.
    """
    given = {
        "sampler": [recipe.sampler],
        "objectives": [part.name for part in recipe.objectives],
        "stages": [part.name for part in recipe.stages],
    }
    for part, expected in PARTS.items():
        if given[part] != [expected]:
            raise ValueError(
                f"{part}: received {', '.join(given[part])}, expected {expected}: soft "
                f"actor-critic on data set '{benchmark.name}' has losses and samples of its own"
            )
    if recipe.coverage.over or recipe.coverage.fixed.parameters:
        raise ValueError(
            "weighting: received weights for some losses only, expected all: each task has one "
            "loss of the actor and one of the critics"
        )
    name = find_unread_field(config, benchmark.training_config)
    if name is not None:
        raise ValueError(
            f"{name}: received {getattr(config, name)!r}, expected "
            f"{getattr(benchmark.training_config, name)!r}: reinforcement learning does not use it"
        )
