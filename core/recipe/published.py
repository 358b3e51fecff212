"""``python -m core.recipe.published``: print the published configuration of each method.

The configuration is that of a trial under ``--search published``, read from its key, with what
follows from it on the published number of examples.
"""

import sys
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

import datasets
from common.arguments import Parser
from common.errors import UserError
from common.terminal import run_command
from common.yaml_files import write_yaml
from core.environment import detect_environment
from core.recipe.component import make_stage, make_weighting
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import ResolvedMethod, resolve_method
from core.recipe.trial_key import TrialKey
from core.stages.base import count_stage_epochs
from core.training.optimizers import (
    choose_decays,
    make_optimizer,
    make_schedule,
    read_learning_rate,
)
from core.weighting.base import LossWeighting
from datasets.benchmark import Benchmark
from datasets.training_config import JOINED_SPLIT, PER_EPOCH_SCHEDULES

PARTS = (0.25, 0.5)  # of a schedule, at which its rates are printed; the first is in its warm-up

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
    stages = [make_stage(part) for part in recipe.stages]
    epochs = count_stage_epochs(stages, config.epochs, config.epochs_cover)
    return {
        **{name: value for name, value in config.as_dict().items() if name in PLAIN_FIELDS},
        "recipe": recipe.as_dict(),
        "stage_epochs": epochs,
        "optimizer": _describe_optimizer(key),
        "schedule": _describe_schedule(key, epochs, benchmark.published_sizes["train"]),
        "clipping": _describe_clipping(key, benchmark),
        "selection": benchmark.default_selection_rule,
        **_describe_published_rule(benchmark),
    }


def _describe_published_rule(benchmark: Benchmark) -> Entry:
    """Return the options that select, and train, as published, where a study's default does not."""
    rule = benchmark.published_rule
    if rule is None or rule == benchmark.default_selection_rule:
        return {}
    joins = type(benchmark).join_training_splits is not Benchmark.join_training_splits
    split = f" --audit-test --set training_split={JOINED_SPLIT}" if joins else ""
    return {"published_selection": f"--select {rule}{split}"}


# Fields that are printed as they are.
PLAIN_FIELDS = (
    "model", "epochs", "epochs_cover", "lr", "batch_size", "augmentation", "pad_to", "patience",
    "training_split",
)  # fmt: skip


def _describe_optimizer(key: TrialKey) -> Entry:
    """Return the optimizer and the decay of weights and of biases and norms."""
    config, decays = key.training_config, choose_decays(key.training_config)
    return {
        "name": config.optimizer,
        **({"momentum": config.momentum} if config.optimizer == "sgd" else {}),
        "decay_of_weights": decays.weights,
        "decay_of_biases_and_norms": decays.vectors,
    }


def _make_optimizer(key: TrialKey) -> torch.optim.Optimizer:
    """Return the optimizer of a layer with a weight and a bias."""
    return make_optimizer(
        nn.Linear(1, 1), make_weighting(key.recipe.weighting), key.training_config
    )


def _describe_schedule(key: TrialKey, epochs: Sequence[int], examples: int) -> Entry:
    """Return the schedule of the first stage, with its rates at three of its steps."""
    config = key.training_config
    if config.schedule == "plateau":  # its rates follow from the metrics
        return {"name": config.schedule}
    is_per_epoch = config.schedule in PER_EPOCH_SCHEDULES
    total = config.epochs if config.epochs_cover == "run" else epochs[0]
    total *= 1 if is_per_epoch else -(-examples // config.batch_size)
    optimizer = _make_optimizer(key)
    schedule = make_schedule(optimizer, config, total)
    warmup = config.warmup_steps or round(config.warmup * total)
    asked = {warmup // 2, *(round(part * total) for part in PARTS)}
    if isinstance(schedule, LambdaLR):  # its steps need not be taken
        rate, share = schedule.base_lrs[0], schedule.lr_lambdas[0]
        rates = {step: rate * share(step) for step in sorted(asked)}
    else:
        rates = {}
        for step in range(max(asked) + 1):
            if step in asked:
                rates[step] = read_learning_rate(optimizer)
            optimizer.step()
            if isinstance(schedule, LRScheduler):
                schedule.step()
    unit = "epochs" if is_per_epoch else "steps"
    return {"name": config.schedule, unit: total, "warmup_steps": warmup, "rates": rates}


def _describe_clipping(key: TrialKey, benchmark: Benchmark) -> Entry:
    """Return the norm, the clipped parameters, and the factor before clipping."""
    config = key.training_config
    is_multiplied = config.times_losses and not isinstance(
        make_weighting(key.recipe.weighting), LossWeighting
    )
    return {
        "norm": config.clip_norm,
        **({"parameters": config.clip} if config.clip_norm else {}),
        "factor": len(benchmark.output_sizes) if is_multiplied else 1,
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
        prog="python -m core.recipe.published",
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
