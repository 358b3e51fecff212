"""``python -m core.training.published``: print the published configuration of each method.

The configuration is that of a trial under ``--search published``, read from its key and from the
objects that train it, with what follows on the published number of examples.
"""

import sys
from collections.abc import Mapping, Sequence

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau, StepLR

import datasets
from common.arguments import Parser
from common.errors import UserError
from common.terminal import run_command
from common.yaml_files import write_yaml
from core import models
from core.environment import detect_environment
from core.recipe.component import (
    make_augmentation,
    make_objective,
    make_stage,
    make_weighting,
)
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import ResolvedMethod, resolve_method
from core.recipe.trial_key import TrialKey
from core.stages.base import Stage, count_stage_epochs
from core.training.optimizers import make_optimizer, make_schedule, read_learning_rate
from core.training.stage_state import count_schedule_steps
from core.training.steps import multiplies_weighted
from core.weighting import Weighting
from datasets.benchmark import Benchmark
from datasets.groups.text_table import TextBenchmark
from datasets.training_config import PER_EPOCH_SCHEDULES

PARTS = (0.25, 0.5)  # of a schedule, at which its rates are printed; the first is in its warm-up
# Fields that are printed as they are.
PLAIN_FIELDS = (
    "model", "epochs", "epochs_cover", "lr", "batch_size", "pad_to", "patience", "training_split",
    "unscaled_targets",
)  # fmt: skip
DIGITS = 6  # of printed rates

Entry = dict[str, object]


def describe_published(resolved: ResolvedMethod) -> Entry:
    """Return the published configuration of a method on a benchmark, as plain data.

    Raises:
        UserError: If it has none.
    """
    values = resolved.published
    if values is None:
        raise UserError(
            f"{resolved.name} has no published hyperparameters for {resolved.benchmark.name}"
        )
    key = resolved.make_key(values, 0, detect_environment(gpu=False))
    config, recipe, benchmark = key.training_config, key.recipe, resolved.benchmark
    losses = recipe.name_losses([make_objective(part) for part in recipe.objectives], benchmark)
    weighting = make_weighting(recipe.weighting)
    weighting.setup(losses.covered)
    complete = resolved.complete_values(values)
    options = {name: complete[name] for name in resolved.method.options}
    return {
        **{name: value for name, value in config.as_dict().items() if name in PLAIN_FIELDS},
        "recipe": recipe.as_dict(),
        **({"options": options} if options else {}),
        "inputs": _describe_inputs(key, benchmark),
        "optimizer": _describe_optimizer(key, weighting),
        "stages": _describe_stages(key, benchmark, weighting),
        "clipping": _describe_clipping(key, weighting, len(losses.covered)),
        "selection": benchmark.default_selection_rule,
        **describe_published_rule(benchmark),
    }


def describe_published_rule(benchmark: Benchmark) -> Entry:
    """Return how the authors selected and trained, where a study's default is another way."""
    rule = benchmark.published_rule
    if rule is None or rule == benchmark.default_selection_rule:
        return {}
    return {
        "published_selection": {
            "rule": rule,
            "training_split": benchmark.published_training_split,
            "option": "--protocol published",
        }
    }


def _describe_inputs(key: TrialKey, benchmark: Benchmark) -> Entry:
    """Return the size of inputs, and what is drawn of them, also for the second task."""
    config = key.training_config
    size = models.find_image_size(config.model) or benchmark.image_size
    augmentation = make_augmentation(config.augmentation)
    tasks = {
        part.name: make_objective(part).describe_draws(benchmark.modality, size)
        for part in key.recipe.objectives
    }
    return {
        **({"text_length": benchmark.max_tokens} if isinstance(benchmark, TextBenchmark) else {}),
        **({} if size is None else {"image_size": size}),
        "augmentation": {"name": config.augmentation, **augmentation.describe_draws()},
        **{name: draws for name, draws in tasks.items() if draws},
    }


def _describe_optimizer(key: TrialKey, weighting: Weighting) -> Entry:
    """Return the optimizer, and the decay of weights, of biases and norms; all by its groups."""
    optimizer = _make_optimizer(key, weighting)
    weights, vectors, *learned = optimizer.param_groups
    names = {"momentum": "momentum", "betas": "betas", "eps": "epsilon"}
    own = {
        name: list(weights[field]) if field == "betas" else weights[field]
        for field, name in names.items()
        if field in weights
    }
    decay, vector_decay = (group["weight_decay"] for group in (weights, vectors))
    return {
        "name": key.training_config.optimizer,
        **own,
        "decay_of_weights": decay,
        "decay_of_biases_and_norms": vector_decay,
        **({"rate_of_weighting": learned[0]["lr"]} if learned else {}),
    }


def _make_optimizer(key: TrialKey, weighting: Weighting) -> Optimizer:
    """Return the optimizer of a layer with a weight and a bias, and of the weighting."""
    return make_optimizer(nn.Linear(1, 1), weighting, key.training_config)


def _describe_stages(key: TrialKey, benchmark: Benchmark, weighting: Weighting) -> list[Entry]:
    """Return the epochs and the schedule of each stage, on the published number of examples."""
    config = key.training_config
    examples = benchmark.published_sizes["train"]
    stages = [make_stage(part) for part in key.recipe.stages]
    epochs = count_stage_epochs(stages, config.epochs, config.epochs_cover)
    steps = -(-examples // config.batch_size)
    found: list[Entry] = []
    for part, stage, count in zip(key.recipe.stages, stages, epochs, strict=True):
        trained: Entry = {}
        if not stage.splits_validation:  # which takes no steps
            span = count_schedule_steps(config, steps, count, examples)
            trained = {
                "starts": _describe_start(stage, first=not found),
                "schedule": _describe_schedule(key, benchmark, weighting, span, count),
            }
        found.append({"stage": part.name, "epochs": count, **trained})
    return found


def _describe_start(stage: Stage, first: bool) -> str:
    return "new weights" if first or stage.reinitialize else "the weights of the stage before"


def _describe_schedule(
    key: TrialKey, benchmark: Benchmark, weighting: Weighting, steps: int, epochs: int
) -> Entry:
    """Return a stage's schedule with its parameters, and its rates at three of its steps."""
    config = key.training_config
    optimizer = _make_optimizer(key, weighting)
    metric = benchmark.reported_metrics[0]
    schedule = make_schedule(optimizer, config, steps, benchmark.higher_is_better[metric])
    if isinstance(schedule, ReduceLROnPlateau):  # its rates follow from the metrics
        return {
            "name": config.schedule,
            "factor": schedule.factor,
            "patience": schedule.patience,
            "min_rate": schedule.min_lrs[0],
            "follows": f"validation {metric}, the {schedule.mode}imum",
        }
    is_per_epoch = config.schedule in PER_EPOCH_SCHEDULES
    total = epochs if is_per_epoch else steps
    own = {}
    if isinstance(schedule, StepLR):
        own = {"every_epochs": schedule.step_size, "factor": schedule.gamma}
    warmup = config.warmup_steps or round(config.warmup * total)
    asked = {warmup // 2, *(round(part * total) for part in PARTS)}
    return {
        "name": config.schedule,
        **own,
        "epochs" if is_per_epoch else "steps": total,
        "warmup_steps": warmup,
        "rates": _list_rates(optimizer, schedule, sorted(asked)),
    }


def _list_rates(
    optimizer: Optimizer, schedule: LRScheduler | None, asked: Sequence[int]
) -> dict[int, float]:
    """Return the rates of the model's weights at some steps."""
    if isinstance(schedule, LambdaLR):  # its steps need not be taken
        rate, share = float(schedule.base_lrs[0]), schedule.lr_lambdas[0]
        return {step: _round_rate(rate * share(step)) for step in asked}
    rates: dict[int, float] = {}
    for step in range(max(asked) + 1):
        if step in asked:
            rates[step] = _round_rate(read_learning_rate(optimizer))
        if schedule is not None:
            optimizer.step()
            schedule.step()
    return rates


def _round_rate(rate: float) -> float:
    """Return a rate without errors of floating point."""
    return float(f"{rate:.{DIGITS}g}")


def _describe_clipping(key: TrialKey, weighting: Weighting, covered: int) -> Entry:
    """Return the norm, the clipped parameters, and the factor before clipping.

    Args:
        key: The key.
        weighting: The weighting.
        covered: The number of losses that the weighting covers.
    """
    config = key.training_config
    return {
        "norm": config.clip_norm,
        **({"parameters": config.clip} if config.clip_norm else {}),
        "factor": covered if multiplies_weighted(config, weighting) else 1,
        "weighted_heads": config.weighted_heads,
    }


def list_published(benchmark: Benchmark, names: Sequence[str]) -> Mapping[str, Entry]:
    """Return the published configuration of each method that has one on a benchmark, by name."""
    methods = [load_method(name) for name in names]
    fitting = [method for method in methods if benchmark.name in method.published]
    return {m.name: describe_published(resolve_method(m, benchmark)) for m in fitting}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the configurations as YAML; return 0, or 2 after a user's mistake."""
    parser = Parser(
        prog="python -m core.training.published",
        description="Print, as YAML, the configuration that --search published trains, for each "
        "method with published hyperparameters on a data set.",
    )
    parser.add_argument("--dataset", required=True, help="data set")
    parser.add_argument("--method", nargs="+", metavar="NAME", help="methods (default: all)")
    args = parser.parse_args(arguments)
    try:
        benchmark = datasets.load_benchmark(args.dataset)
        if args.method:
            methods = [load_method(name) for name in args.method]
            found = {m.name: describe_published(resolve_method(m, benchmark)) for m in methods}
        else:
            found = dict(list_published(benchmark, list_methods()))
        if not found:
            raise UserError(f"no method has published hyperparameters for {benchmark.name}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(write_yaml(found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, prints_result=True))
