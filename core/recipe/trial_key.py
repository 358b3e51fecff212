"""The key of a trial: all that its numbers depend on."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from common.errors import ValidationErrors, unknown_name_message
from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar
from core.environment import Environment
from core.recipe.method import SETTINGS, Method, check_setting
from core.recipe.recipe import check_recipe
from core.training.optimizers import PER_EPOCH_SCHEDULES
from datasets.benchmark import Benchmark

VERSION = 6  # raised when the training core computes other numbers from the same key


@dataclass(frozen=True)
class TrialKey:
    """What a trial is a pure function of.

    Args:
        dataset: The benchmark's name.
        version: The benchmark's version, and its baseline where it has one.
        recipe: The recipe filled with values.
        settings: The training config with the trial's values.
        seed: Seed of weights, sampling and dropout.
        environment: Device class, precision, threads.
        core: Version of the training core.
    """

    dataset: str
    version: str
    recipe: dict[str, Any]
    settings: dict[str, Scalar]
    seed: int
    environment: Environment
    core: int = VERSION

    def as_dict(self) -> dict[str, Any]:
        """Return the key as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TrialKey":
        """Return the key that :meth:`as_dict` described."""
        return cls(**{**data, "environment": Environment(**data["environment"])})

    @property
    def digest(self) -> str:
        """The key's name: 16 hexadecimal digits."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def defaults(method: Method, benchmark: Benchmark) -> Hyperparameters:
    """Return the default training config: the benchmark's, changed by the method's settings.

    A method that needs hidden states gets the benchmark's encoder in place of its model.
    """
    found = benchmark.training_config.as_dict()
    if "encoder" in method.needs and benchmark.encoder is not None:
        found["model"] = benchmark.encoder
    return found | method.settings


def values(method: Method, benchmark: Benchmark, config: Mapping[str, Scalar]) -> Hyperparameters:
    """Return the value of every hyperparameter and every field of the training config.

    ``config`` wins over the hyperparameters' defaults, and they over :func:`defaults`.

    A whole number written as 1.0 becomes 1 and a setting's integer 1 stays 1, so that equal
    configurations have equal keys.
    """
    hyperparameters = method.hyperparameters(benchmark)
    merged: Hyperparameters = {
        **defaults(method, benchmark),
        **{name: hyperparameter.default for name, hyperparameter in hyperparameters.items()},
        **config,
    }
    fields = benchmark.training_config.as_dict()
    return {n: _canonical(v, hyperparameters.get(n), fields.get(n)) for n, v in merged.items()}


def _canonical(
    value: Scalar, hyperparameter: Hyperparameter | None, setting: Scalar | None
) -> Scalar:
    if hyperparameter is not None:
        return hyperparameter.canonical(value)
    if isinstance(setting, float) and not isinstance(value, (str, bool)):
        return float(value)
    return int(value) if isinstance(value, float) and isinstance(setting, int) else value


def make_key(
    method: Method,
    benchmark: Benchmark,
    config: Mapping[str, Scalar],
    seed: int,
    environment: Environment,
) -> TrialKey:
    """Return the key of one training run.

    Args:
        method: The method.
        benchmark: The benchmark.
        config: Values of hyperparameters and settings that differ from the defaults.
        seed: The training seed.
        environment: Where it computes.

    Raises:
        ValidationErrors: If ``config`` has unknown names, or a value breaks a rule or makes no
            sense in the recipe.
    """
    check_config(method, benchmark, config)
    merged = values(method, benchmark, config)
    if merged["warmup"] and merged["schedule"] in PER_EPOCH_SCHEDULES:
        where = f"{method.name} on {benchmark.name}: warmup: received {merged['warmup']}"
        raise ValidationErrors(
            [f"{where}, expected 0 with schedule {merged['schedule']}, which has none"]
        )
    recipe = method.recipe.fill(merged)
    try:
        check_recipe(recipe, benchmark, str(merged["gradients"]))
    except ValueError as error:
        raise ValidationErrors([f"{method.name} on {benchmark.name}: {error}"]) from None
    settings = {name: merged[name] for name in benchmark.training_config.as_dict()}
    return TrialKey(benchmark.name, benchmark.key_version, recipe, settings, seed, environment)


def check_config(method: Method, benchmark: Benchmark, config: Mapping[str, Scalar]) -> None:
    """Refuse wrong names and values, all at once.

    A value outside of a searched range is allowed (published values are); one of the wrong kind
    is not.

    Raises:
        ValidationErrors: A sentence per mistake.
    """
    own = method.hyperparameters(benchmark)
    known = sorted({*own, *SETTINGS})
    problems = []
    for name, value in config.items():
        where = f"{method.name} on {benchmark.name}: {name}"
        if name not in known:
            problems.append(
                f"{method.name} on {benchmark.name}: "
                + unknown_name_message("hyperparameter", name, known)
            )
        elif name in SETTINGS:
            rule = check_setting(name, value)
            if rule is not None:
                problems.append(f"{where}: received {value!r}, expected {rule}")
        elif (rule := _kind_rule(own[name], value)) is not None:
            problems.append(f"{where}: received {value!r}, expected {rule}")
    if problems:
        raise ValidationErrors(problems)


def _kind_rule(hyperparameter: Hyperparameter, value: object) -> str | None:
    """Return what kind of value a hyperparameter takes, if ``value`` is of another."""
    if hyperparameter.words:
        return hyperparameter.broken_rule(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(cast(float, value)):
        return "a whole number" if hyperparameter.whole else "a number"
    whole = float(cast(float, value)).is_integer()
    return "a whole number" if hyperparameter.whole and not whole else None
