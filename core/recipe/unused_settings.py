"""Values of the training config that a method, a benchmark or a model cannot use."""

from collections.abc import Iterator, Sequence

from common.hyperparameters import format_scalar
from core import models
from core.recipe.component import (
    component_classes,
    make_augmentation,
    make_objective,
    make_stage,
)
from core.recipe.recipe import Recipe
from core.stages.base import Stage
from core.weighting.base import LossWeighting
from datasets.benchmark import Benchmark
from datasets.training_config import TrainingConfig

GRADIENT_FIELDS = ("times_losses", "weighted_heads", "gradients")  # of gradient-based weightings


def find_unused_settings(
    benchmark: Benchmark, recipe: Recipe, config: TrainingConfig, default: TrainingConfig
) -> dict[str, str]:
    """Return a message for each field that differs from its default and changes nothing.

    Args:
        benchmark: The benchmark.
        recipe: The recipe, with values.
        config: The training config.
        default: The config of the method on the benchmark where nothing is set.
    """
    values, defaults = config.as_dict(), default.as_dict()
    found: dict[str, str] = {}
    for name, reason in _list_unused_fields(benchmark, recipe, config):
        if values[name] != defaults[name]:
            received, expected = format_scalar(values[name]), format_scalar(defaults[name])
            message = f"{name}: received {received}, which has no effect, expected {expected}"
            found.setdefault(name, f"{message}: {reason}")
    return found


def find_unused_by_weighting(recipe: Recipe) -> dict[str, str]:
    """Return the reason for each field that the weighting of a recipe cannot use."""
    kind = component_classes("weighting")[recipe.weighting.name]
    if not issubclass(kind, LossWeighting):
        return {}
    reason = (
        f"weighting '{recipe.weighting.name}' weights losses; it applies to weightings of "
        "per-task gradients, such as fairgrad"
    )
    return dict.fromkeys(GRADIENT_FIELDS, reason)


def _list_unused_fields(
    benchmark: Benchmark, recipe: Recipe, config: TrainingConfig
) -> Iterator[tuple[str, str]]:
    """Yield the fields that change nothing, each with the reason and where it applies."""
    yield from find_unused_by_weighting(recipe).items()
    stages = [make_stage(part) for part in recipe.stages]
    reason = _explain_shared_parameters(recipe, config, stages)
    if reason:
        yield "weighted_heads", reason
        yield "clip", reason
    if not config.clip_norm:
        yield "clip", "clip_norm is 0, so that nothing is clipped; set clip_norm too"
    if config.optimizer != "sgd":
        yield "momentum", f"it applies to optimizer sgd; this one is {config.optimizer}"
    if not config.weight_decay:
        yield "decay_target", "weight_decay is 0; set weight_decay too"
    if config.pad_to and "text" not in benchmark.provides:
        yield "pad_to", f"data set '{benchmark.name}' has no texts; it applies to texts"
    if config.from_scratch and not models.is_pretrained(config.model):
        known = "a pretrained model, such as resnet50 or a public name"
        yield (
            "from_scratch",
            f"model '{config.model}' has random weights anyway; it applies to {known}",
        )
    if make_augmentation(config.augmentation).needs_image_files and not benchmark.has_image_files:
        yield (
            "augmentation",
            f"data set '{benchmark.name}' has no image files; it applies to photographs",
        )
    if config.microbatch >= config.batch_size:
        yield "microbatch", f"it does not split batches of {config.batch_size}"
    if len(stages) == 1 and stages[0].epochs is None and not stages[0].passes_after:
        yield "epochs_cover", "the method has one stage; it applies to several, such as jtt's"


def _explain_shared_parameters(
    recipe: Recipe, config: TrainingConfig, stages: Sequence[Stage]
) -> str:
    """Return why no parameters belong to a task's head alone; empty where some do."""
    if any(make_objective(part).shares_head for part in recipe.objectives):
        return "the losses share one head, so that all parameters are shared; it applies to tasks"
    if any(stage.one_model_per_task for stage in stages):
        return "each task has a model of its own, without shared parameters"
    if models.lacks_task_heads(config.model):
        return f"model '{config.model}' has no task heads, so that all parameters are shared"
    return ""
