"""Validate the content of a method's YAML file and make a method of it.

Keys of a file: ``description``, ``paper``, ``needs``, ``recipe``
(:mod:`core.recipe.recipe_parser`), ``settings`` (fields of the training config that the method
changes), ``search`` (the hyperparameters that the method adds, :mod:`common.hyperparameters`),
``options`` (hyperparameters likewise, which are fixed unless a command searches them),
``datasets`` (other domains of these for one benchmark), ``grid`` and ``published`` (published grid
and best values per benchmark).
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from common import hyperparameters as hyperparameter_files
from common.errors import ValidationErrors, suggest_name, unknown_name_message
from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar
from core.recipe.conditions import find_condition_mistakes
from core.recipe.method import IMPLIED_NEEDS, NEEDS, Method
from core.recipe.recipe import Recipe
from core.recipe.recipe_parser import parse_recipe
from core.recipe.training_rules import (
    PUBLISHED_FIELDS,
    TRAINING_CONFIG_FIELDS,
    broken_training_rule,
)
from core.recipe.unused_settings import find_unused_by_weighting

KEYS = (
    "description", "paper", "needs", "recipe", "settings", "search", "options", "datasets", "grid",
    "published",
)  # fmt: skip
_ANY = Hyperparameter("integer", (0, 1), 0)  # in place of a hyperparameter with a mistake


def parse_method(path: Path, content: object) -> Method:
    """Return the method that a file's content describes.

    Raises:
        ValidationErrors: If the content is invalid, with all mistakes at once.
    """
    where = name_file(path)
    if not isinstance(content, Mapping):
        raise ValidationErrors(
            [f"{where}: received {content!r}, expected a mapping with {', '.join(KEYS)}"]
        )
    return _MethodParser(where, content).parse(path.stem)


def name_file(path: Path) -> str:
    """Return the name of a file in messages: its folder and its own name."""
    return f"{path.parent.name}/{path.name}"


class _MethodParser:
    """Parses one file and collects the mistakes in it."""

    def __init__(self, where: str, content: Mapping[Any, Any]) -> None:
        self.where = where
        self.content = content
        self.mistakes: list[str] = []

    def parse(self, name: str) -> Method:
        """Return the method, or raise all mistakes."""
        for key in self.content:
            if key not in KEYS:
                self._add("", f"unknown key '{key}'{suggest_name(str(key), KEYS)}")
        description = self.content.get("description", "")
        if not isinstance(description, str) or not description:
            self._add("description", f"received {description!r}, expected a sentence")
            description = ""
        search = self._parse_hyperparameters("search", self.content.get("search"))
        exceptions = {
            str(dataset): self._parse_hyperparameters(f"datasets.{dataset}", domains)
            for dataset, domains in self._get_mapping("datasets").items()
        }
        options = self._parse_hyperparameters("options", self.content.get("options"))
        both = {**search, **options}
        recipe = self._parse_recipe(both)
        needs = self._parse_needs()
        settings = self._parse_settings()
        grid = self._parse_grid(both)
        published = self._parse_published(both)
        self._check_exceptions(search, exceptions)
        self._check_conditions(search, exceptions)
        if recipe is not None:
            self._check_recipe(recipe, [search, *exceptions.values()], needs)
            self._check_options(recipe, search, options)
            self._check_settings_used(recipe, settings)
        self._check_datasets({*exceptions, *grid, *published})
        if self.mistakes or recipe is None:
            raise ValidationErrors(self.mistakes)
        return Method(
            name=name,
            description=description,
            paper=str(self.content.get("paper", "")),
            needs=needs | (recipe.needs & IMPLIED_NEEDS),
            recipe=recipe,
            settings=settings,
            search=search,
            options=options,
            exceptions=exceptions,
            grid=grid,
            published=published,
        )

    def _add(self, key: str, message: str) -> None:
        where = f"{self.where}: {key}" if key else self.where
        self.mistakes.append(f"{where}: {message}")

    def _check_mapping(self, key: str, value: object) -> Mapping[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._add(key, f"received {value!r}, expected a mapping")
            return {}
        return value

    def _get_mapping(self, key: str) -> Mapping[Any, Any]:
        return self._check_mapping(key, self.content.get(key))

    def _parse_hyperparameters(self, key: str, domains: object) -> dict[str, Hyperparameter]:
        found = {}
        for name, domain in self._check_mapping(key, domains).items():
            if name in TRAINING_CONFIG_FIELDS:
                self._add(
                    f"{key}.{name}",
                    "is a training-config field; set it under `settings` or with --set",
                )
            where = f"{self.where}: {key}.{name}"
            hyperparameter = hyperparameter_files.parse_hyperparameter(where, domain, self.mistakes)
            if hyperparameter is not None:
                found[str(name)] = hyperparameter
        return found

    def _parse_recipe(self, search: Mapping[str, Hyperparameter]) -> Recipe | None:
        written = [self.content.get(key) for key in ("search", "options")]
        names = [name for part in written if isinstance(part, Mapping) for name in part]
        known = {str(name): search.get(str(name), _ANY) for name in names}
        recipe, mistakes = parse_recipe(f"{self.where}: recipe", self.content.get("recipe"), known)
        self.mistakes += mistakes
        return recipe

    def _parse_needs(self) -> frozenset[str]:
        needs = self.content.get("needs") or []
        if isinstance(needs, list) and all(need in NEEDS for need in needs):
            return frozenset(needs)
        self._add("needs", f"received {needs!r}, expected a list of {list(NEEDS)}")
        return frozenset()

    def _parse_settings(self) -> Hyperparameters:
        settings: Hyperparameters = {}
        for name, value in self._get_mapping("settings").items():
            if name in TRAINING_CONFIG_FIELDS:
                rule = broken_training_rule(name, value)
            else:
                rule = f"one of {list(TRAINING_CONFIG_FIELDS)}"
            if rule is not None:
                self._add(f"settings.{name}", f"received {value!r}, expected {rule}")
            settings[str(name)] = value
        return settings

    def _parse_grid(
        self, search: Mapping[str, Hyperparameter]
    ) -> dict[str, dict[str, list[Scalar]]]:
        """Return the published grid, a list of values per hyperparameter, per benchmark."""
        found: dict[str, dict[str, list[Scalar]]] = {}
        for dataset, given in self._get_mapping("grid").items():
            lists: dict[str, list[Scalar]] = {}
            for name, values in self._check_mapping(f"grid.{dataset}", given).items():
                key = f"grid.{dataset}.{name}"
                if not self._is_known(key, name, search):
                    continue
                if not (isinstance(values, list) and values):
                    self._add(key, f"received {values!r}, expected a list of values")
                    continue
                self._check_values(key, str(name), values, values, search)
                lists[str(name)] = values
            found[str(dataset)] = lists
        return found

    def _parse_published(self, search: Mapping[str, Hyperparameter]) -> dict[str, Hyperparameters]:
        """Return the published best values per benchmark."""
        found: dict[str, Hyperparameters] = {}
        for dataset, given in self._get_mapping("published").items():
            values: Hyperparameters = {}
            for name, value in self._check_mapping(f"published.{dataset}", given).items():
                key = f"published.{dataset}.{name}"
                if self._is_known(key, name, search):
                    self._check_values(key, str(name), [value], value, search)
                values[str(name)] = value
            found[str(dataset)] = values
        return found

    def _is_known(self, key: str, name: object, search: Mapping[str, Hyperparameter]) -> bool:
        known = (*search, *PUBLISHED_FIELDS)
        if name in known:
            return True
        self._add(key, unknown_name_message("hyperparameter", str(name), known))
        return False

    def _check_values(
        self,
        key: str,
        name: str,
        values: list[Scalar],
        received: object,
        search: Mapping[str, Hyperparameter],
    ) -> None:
        """Check published values, which may be outside of the searched range."""
        is_field = name in PUBLISHED_FIELDS and name not in search
        for value in values:
            rule = (
                broken_training_rule(name, value)
                if is_field
                else search[name].find_broken_kind(value)
            )
            if rule is not None:
                self._add(key, f"received {received!r}, expected {rule}")
                return

    def _check_exceptions(
        self,
        search: Mapping[str, Hyperparameter],
        exceptions: Mapping[str, Mapping[str, Hyperparameter]],
    ) -> None:
        for dataset, hyperparameters in exceptions.items():
            for name in hyperparameters:
                if name not in search:
                    message = unknown_name_message("hyperparameter", name, search)
                    self._add(f"datasets.{dataset}", message)

    def _check_conditions(
        self,
        search: Mapping[str, Hyperparameter],
        exceptions: Mapping[str, Mapping[str, Hyperparameter]],
    ) -> None:
        """Check all conditions, and whether they hold with the exceptions of each data set."""
        found = [f"search{mistake}" for mistake in find_condition_mistakes(search, search)]
        if not found:
            found = [
                f"datasets.{dataset}{mistake}"
                for dataset, given in exceptions.items()
                for mistake in find_condition_mistakes(given, {**search, **given})
            ]
        self.mistakes += [f"{self.where}: {mistake}" for mistake in found]

    def _check_recipe(
        self,
        recipe: Recipe,
        searches: Sequence[Mapping[str, Hyperparameter]],
        needs: frozenset[str],
    ) -> None:
        conditions = {
            other for search in searches for domain in search.values() for other in domain.when
        }
        for name in searches[0]:
            if name not in recipe.references | conditions:
                self._add(f"search.{name}", "no component of the recipe uses it")
        for need in sorted(recipe.needs - needs - IMPLIED_NEEDS):
            self._add("needs", f"the recipe needs {need}, which is not listed")

    def _check_options(
        self,
        recipe: Recipe,
        search: Mapping[str, Hyperparameter],
        options: Mapping[str, Hyperparameter],
    ) -> None:
        """Refuse an option that no component uses, or whose default is not the component's."""
        defaults = recipe.list_defaults()
        for name, option in options.items():
            key = f"options.{name}"
            if name in search:
                self._add(key, "is under `search` too; expected it in one of them")
            if option.when:
                self._add(key, "has a condition; expected a domain and a default only")
            if name not in defaults:
                self._add(key, "no component of the recipe uses it")
            elif any(default != option.default for default in defaults[name]):
                own = ", ".join(map(repr, dict.fromkeys(defaults[name])))
                message = f"received {option.default!r}, expected the component's own: {own}"
                self._add(f"{key}.default", message)

    def _check_settings_used(self, recipe: Recipe, settings: Hyperparameters) -> None:
        """Refuse settings that the recipe's weighting cannot use."""
        for name, reason in find_unused_by_weighting(recipe).items():
            if name in settings:
                self._add(f"settings.{name}", f"has no effect: {reason}")

    def _check_datasets(self, names: set[str]) -> None:
        """Refuse misspelt data sets; unknown ones may be a user's own."""
        known = datasets.list_benchmarks()
        for name in sorted(names - set(known)):
            for close in difflib.get_close_matches(name, known, n=1, cutoff=0.8):
                self._add("", f"unknown data set '{name}' (did you mean '{close}'?)")
