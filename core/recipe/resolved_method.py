"""A method on a benchmark, resolved once: everything that its trials have in common."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from common.errors import ValidationErrors, unknown_name_message
from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar
from core.environment import Environment
from core.recipe.conditions import find_condition_mistakes
from core.recipe.method import Method
from core.recipe.method_files import list_methods, load_method
from core.recipe.recipe import EpochCounts, Recipe
from core.recipe.training_rules import TRAINING_CONFIG_FIELDS, broken_training_rule
from core.recipe.trial_key import TrialKey
from core.recipe.unused_settings import find_unused_settings
from core.reinforcement.recipe_rules import check_reinforcement
from datasets.benchmark import Benchmark
from datasets.environments.config import ReinforcementConfig
from datasets.training_config import TrainingConfig, check_schedule

NO_DOMAINS: Mapping[str, Hyperparameter] = MappingProxyType({})
NO_SOURCES: Mapping[str, str] = MappingProxyType({})
COMMAND = "command line"  # the origin of a domain that a command gives


@dataclass(frozen=True)
class ResolvedMethod:
    """A method on a benchmark.

    Args:
        method: The method.
        benchmark: The benchmark.
        hyperparameters: The hyperparameters that a search may set: the benchmark's, then the
            method's, with their domains on this benchmark.
        training_config: The training config where nothing is set: the benchmark's, with the
            method's changes.
        defaults: The default value of every hyperparameter and every training-config field.
        origins: The place that defines each hyperparameter's domain.
        sources: The option that gives a value or a domain, by name, for messages.
    """

    method: Method
    benchmark: Benchmark
    hyperparameters: Mapping[str, Hyperparameter]
    training_config: TrainingConfig
    defaults: Hyperparameters
    origins: Mapping[str, str]
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    @property
    def recipe(self) -> Recipe:
        """The recipe, with names of hyperparameters."""
        return self.method.recipe

    @property
    def grid(self) -> Mapping[str, list[Scalar]]:
        """The published grid for this benchmark; empty if there is none."""
        return self.method.grid.get(self.benchmark.name, {})

    @property
    def published(self) -> Hyperparameters | None:
        """The published best values for this benchmark; None if there are none."""
        return self.method.published.get(self.benchmark.name)

    def has_name(self, name: str) -> bool:
        """Return whether ``name`` is a hyperparameter, an option or a training-config field."""
        return name in self.defaults or name in self.method.options

    def complete_values(self, values: Mapping[str, Scalar]) -> Hyperparameters:
        """Return the value of every hyperparameter, option and training-config field.

        An integer written as 1.0 becomes 1, and 1 becomes 1.0 where the field is a float, so
        that equal configurations have equal keys.
        """
        options = {name: option.default for name, option in self.method.options.items()}
        return {name: self._normalize_value(name, value) for name, value in
                {**options, **self.defaults, **values}.items()}  # fmt: skip

    def _normalize_value(self, name: str, value: Scalar) -> Scalar:
        hyperparameter = self._find_hyperparameter(name)
        if hyperparameter is not None:
            return hyperparameter.to_canonical(value)
        field = getattr(self.benchmark.training_config, name, None)
        if isinstance(field, float) and not isinstance(value, (str, bool)):
            return float(value)
        return int(value) if isinstance(value, float) and isinstance(field, int) else value

    def _find_hyperparameter(self, name: str) -> Hyperparameter | None:
        """Return a hyperparameter or an option of the method; None for a training-config field."""
        return self.hyperparameters.get(name) or self.method.options.get(name)

    def fill_recipe(self, complete: Mapping[str, Scalar]) -> Recipe:
        """Return the recipe with complete values; options at their defaults are left out."""
        options = self.method.options.items()
        omitted = {name for name, option in options if complete[name] == option.default}
        return self.recipe.with_values(complete, omitted)

    def count_epochs(self, values: Mapping[str, Scalar] | None = None) -> EpochCounts:
        """Return the epochs of a trial, with default values where none are given.

        Raises:
            ValidationErrors: If there are too few for the stages.
        """
        complete = self.complete_values(values or {})
        config = _make_training_config(self.benchmark, complete)
        try:
            return self.fill_recipe(complete).count_epochs(config.epochs, config.epochs_cover)
        except ValueError as error:
            raise ValidationErrors([f"{self.name} on {self.benchmark.name}: {error}"]) from None

    def make_key(
        self, values: Mapping[str, Scalar], seed: int, environment: Environment
    ) -> TrialKey:
        """Return the key of one training run.

        Args:
            values: Values that differ from the defaults.
            seed: The training seed.
            environment: Where the run computes.

        Raises:
            ValidationErrors: If a name is unknown, a value is invalid, or the recipe cannot work
                with the values.
        """
        self.check_values(values)
        complete = self.complete_values(values)
        where = f"{self.name} on {self.benchmark.name}"
        config = _make_training_config(self.benchmark, complete)
        recipe = self.fill_recipe(complete)
        try:
            check_schedule(config)
            self._check_data_options(config)
            benchmark = self.benchmark
            if isinstance(config, ReinforcementConfig):
                check_reinforcement(recipe, config, benchmark)
                benchmark = benchmark.configure(config)  # which may have other tasks
            recipe.check_compatibility(benchmark, config)
        except ValueError as error:
            message = self._name_hyperparameter(str(error))
            raise ValidationErrors([f"{where}: {message}"]) from None
        try:
            recipe.count_epochs(config.epochs, config.epochs_cover)
        except ValueError as error:
            raise ValidationErrors([f"{where}: {error}"]) from None
        version = self.benchmark.key_version
        return TrialKey(self.benchmark.name, version, recipe, config, seed, environment)

    def _name_hyperparameter(self, message: str) -> str:
        """Return a message that begins with a component's parameter, with the name users set."""
        recipe = self.method.recipe
        for part in (recipe.weighting, *recipe.objectives, *recipe.stages):
            for parameter, value in part.parameters.items():
                known = isinstance(value, str) and self.has_name(value)
                if known and re.match(rf"{parameter}\b", message):
                    return f"{value}{message.removeprefix(parameter)}"
        return message

    def find_unused_settings(self, values: Mapping[str, Scalar]) -> dict[str, str]:
        """Return a message for each training-config field that ``values`` set without effect.

        Args:
            values: Values that differ from the defaults.
        """
        if isinstance(self.training_config, ReinforcementConfig):
            return {}  # make_key refuses them
        complete = self.complete_values(values)
        config, recipe = _make_training_config(self.benchmark, complete), self.fill_recipe(complete)
        found = find_unused_settings(self.benchmark, recipe, config, self.training_config)
        where = f"{self.name} on {self.benchmark.name}"
        return {name: f"{where}: {text}" for name, text in found.items() if name in values}

    def _check_data_options(self, config: TrainingConfig) -> None:
        """Refuse to train on validation examples or unscaled targets where no published code does.

        Raises:
            ValueError: If the config does.
        """
        if config.unscaled_targets and type(self.benchmark).configure is Benchmark.configure:
            raise ValueError(
                f"unscaled_targets: received true, expected false: data set "
                f"'{self.benchmark.name}' does not scale its targets"
            )
        if config.training_split not in ("train", self.benchmark.published_training_split):
            raise ValueError(
                f"training_split: received '{config.training_split}', expected 'train': data set "
                f"'{self.benchmark.name}' has a validation split of its own"
            )

    def check_values(self, values: Mapping[str, Scalar]) -> None:
        """Refuse unknown names and invalid values, all at once.

        A number outside of a searched range is valid, since published values may be; one of the
        wrong kind is not.

        Raises:
            ValidationErrors: One message per mistake.
        """
        problems = []
        for name, value in values.items():
            where = self.sources.get(name, f"{self.name} on {self.benchmark.name}")
            if not self.has_name(name):
                message = unknown_name_message(
                    "hyperparameter", name, (*self.defaults, *self.method.options)
                )
                problems.append(f"{where}: {message}")
                continue
            if name in self.training_config.as_dict():
                rule = broken_training_rule(name, value, values.get("from_scratch") is True)
            else:
                rule = self._find_broken_kind(name, value)
            if rule is not None:
                problems.append(f"{where}: {name}: received {value!r}, expected {rule}")
        if problems:
            raise ValidationErrors(problems)

    def _find_broken_kind(self, name: str, value: Scalar) -> str | None:
        """Return the kind of value that a hyperparameter takes, if ``value`` is of another.

        The words of an option are checked by the component that takes them.
        """
        hyperparameter = self._find_hyperparameter(name)
        assert hyperparameter is not None
        if name in self.method.options and isinstance(hyperparameter.default, str):
            return None if isinstance(value, str) else "a word"
        return hyperparameter.find_broken_kind(value)


def resolve_method(
    method: Method,
    benchmark: Benchmark,
    domains: Mapping[str, Hyperparameter] = NO_DOMAINS,
    sources: Mapping[str, str] = NO_SOURCES,
) -> ResolvedMethod:
    """Return a method on a benchmark.

    Hyperparameters of the benchmark come first, then the method's. Those that the method's settings
    fix are not searched. A method that needs hidden states trains the benchmark's encoder in place
    of its default model.

    Args:
        method: The method.
        benchmark: The benchmark.
        domains: Domains that replace the method's and the benchmark's, or make an option or a
            training-config field a hyperparameter. Names that neither has are ignored. Those
            without a default keep that of the replaced one, where they hold it.
        sources: The option that gives a value or a domain, by name, for messages.

    Raises:
        ValidationErrors: If a condition of a domain cannot hold.
        UserError: If the benchmark lacks a property that the method needs.
    """
    method.check_benchmark(benchmark)
    exceptions = method.exceptions.get(benchmark.name, {})
    config = benchmark.training_config
    if "encoder" in method.needs and benchmark.encoder is not None:
        config = replace(config, model=benchmark.encoder)
    config = _make_training_config(benchmark, {**config.as_dict(), **method.settings})
    own = {n: domain for n, domain in benchmark.search_space.items() if n not in method.settings}
    hyperparameters = {**own, **method.search, **exceptions}
    origins = {
        **dict.fromkeys(own, f"data set {benchmark.name}"),
        **dict.fromkeys(method.search, f"method {method.name}"),
        **dict.fromkeys(exceptions, f"method {method.name} on {benchmark.name}"),
    }
    place = f"{method.name} on {benchmark.name}: search space"
    mistakes = [f"{place}{text}" for text in find_condition_mistakes(own, hyperparameters)]
    known = {*hyperparameters, *method.options, *config.as_dict()}
    _check_own_file(benchmark, known)
    ranges = {n: d for n, d in benchmark.own_ranges.items() if n not in method.settings}
    asked = {name: d for name, d in {**ranges, **domains}.items() if name in known}
    for name, domain in (*ranges.items(), *domains.items()):
        if name not in known:
            continue
        replaced = hyperparameters.get(name, method.options.get(name))
        default = config.as_dict().get(name) if replaced is None else replaced.default
        when = hyperparameters[name].when if name in hyperparameters else {}
        hyperparameters[name] = replace(domain.take_default(default), when=domain.when or when)
        origins[name] = COMMAND if name in domains else benchmark.own_file
    for name, domain in asked.items():
        key = f"{sources[name]}: {name}" if name in sources else f"{place}.{name}"
        found = find_condition_mistakes({name: domain}, hyperparameters) if domain.when else ()
        mistakes += [
            f"{key}{text.removeprefix(f'.{name}')}"
            for text in found
            if text.startswith((f".{name}.", ":"))  # a mistake in it, or circular conditions
        ]
    if mistakes:
        raise ValidationErrors(list(dict.fromkeys(mistakes)))
    defaults = config.as_dict() | {name: h.default for name, h in hyperparameters.items()}
    return ResolvedMethod(method, benchmark, hyperparameters, config, defaults, origins, sources)


def _check_own_file(benchmark: Benchmark, known: Collection[str]) -> None:
    """Refuse names of hyperparameters, models and augmentations that do not exist.

    Args:
        benchmark: The benchmark.
        known: Names of hyperparameters that need no look into the files of all methods.

    Raises:
        ValidationErrors: A sentence per mistake.
    """
    problems = []
    unknown = [name for name in benchmark.own_ranges if name not in known]
    if unknown:
        methods = [load_method(name) for name in list_methods()]
        names = {name for method in methods for name in (*method.search, *method.options)}
        names |= {*TRAINING_CONFIG_FIELDS, *known}
        problems += [
            f"{benchmark.own_file}: search: {unknown_name_message('hyperparameter', name, names)}"
            for name in unknown
            if name not in names
        ]
    for name in ("model", "augmentation"):
        value = benchmark.own_protocol.get(name)
        scratch = benchmark.own_protocol.get("from_scratch") is True
        rule = None if value is None else broken_training_rule(name, value, scratch)
        if rule is not None:
            problems.append(
                f"{benchmark.own_file}: protocol.{name}: received {value!r}, expected {rule}"
            )
    if problems:
        raise ValidationErrors(problems)


def _make_training_config(benchmark: Benchmark, values: Mapping[str, Any]) -> TrainingConfig:
    """Return the training config, of the benchmark's kind, with values for all of its fields."""
    config = benchmark.training_config
    return replace(config, **{name: values[name] for name in config.as_dict()})
