"""Methods: one YAML per method in ``search_spaces/``, read and checked whole.

Keys of a file: ``description``, ``paper``, ``needs``, ``recipe`` (:mod:`core.recipe.recipe`),
``settings`` (fields of the training config, where the method has its own), ``search`` (the
hyperparameters that the method adds, :mod:`common.hyperparameters`), ``datasets`` (other domains of
these for one benchmark), ``grid`` and ``published`` (published grid and best values per benchmark).
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from common import hyperparameters as hyperparameter_files
from common.errors import UserError, ValidationErrors, suggest_name, unknown_name_message
from common.hyperparameters import Hyperparameter, Hyperparameters
from common.yaml_files import read_yaml_file
from core import models
from core.recipe.component import component_classes
from core.recipe.recipe import Recipe
from core.recipe.recipe_parser import parse_recipe
from datasets.benchmark import TRAINING_CONFIG_RULES, Benchmark

FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"
KEYS = (
    "description", "paper", "needs", "recipe", "settings", "search", "datasets", "grid", "published"
)  # fmt: skip
NEEDS = ("train_groups", "validation_groups", "tasks", "encoder", "images", "text")
IMPLIED = frozenset({"classification"})  # needs that a file need not name
_ANY = Hyperparameter("integer", (0, 1), 0)
SETTINGS = (*TRAINING_CONFIG_RULES, "model", "augmentation")


@dataclass(frozen=True)
class Method:
    """A method as its file describes it.

    Args:
        name: The file's name without ``.yaml``.
        description: One sentence.
        paper: Where it was published.
        needs: What a benchmark must provide, such as ``train_groups``.
        recipe: The recipe.
        settings: Fields of the training config that the method changes, such as ``clip_norm``.
        search: The hyperparameters that the method adds.
        exceptions: Other domains of these hyperparameters, per benchmark.
        grid: Published grid per benchmark: values per hyperparameter.
        published: Published best values per benchmark.
    """

    name: str
    description: str
    paper: str
    needs: frozenset[str]
    recipe: Recipe
    settings: Hyperparameters
    search: Mapping[str, Hyperparameter]
    exceptions: Mapping[str, Mapping[str, Hyperparameter]]
    grid: Mapping[str, Mapping[str, list[Any]]]
    published: Mapping[str, Hyperparameters]

    def check_benchmark(self, benchmark: Benchmark) -> None:
        """Refuse a benchmark that lacks what the method needs.

        Raises:
            UserError: If it does.
        """
        missing = sorted(self.needs - benchmark.provides)
        if missing:
            raise UserError(
                f"method '{self.name}' needs {', '.join(missing)}, "
                f"which data set '{benchmark.name}' does not provide"
            )


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of all methods, sorted."""
    found = (path for path in folder.glob("*.yaml") if path.is_file())
    return sorted(path.stem for path in found if not path.name.startswith("."))


def load(name: str, folder: Path = FOLDER) -> Method:
    """Read a method's file.

    Raises:
        UserError: If there is no such method.
        ValidationErrors: If the file has mistakes: all of them at once.
    """
    path = folder / f"{name}.yaml"
    if name not in names(folder):
        raise UserError(unknown_name_message("method", name, names(folder)))
    try:
        text = read_yaml_file(path, _short(path))
    except UserError as error:
        raise ValidationErrors([str(error)]) from None
    return parse(path, text)


def parse(path: Path, text: Any) -> Method:
    """Check and return the method that a file's content describes.

    Raises:
        ValidationErrors: If it has mistakes: all of them at once.
    """
    where = _short(path)
    problems: list[str] = []
    if not isinstance(text, Mapping):
        raise ValidationErrors(
            [f"{where}: received {text!r}, expected a mapping with {', '.join(KEYS)}"]
        )
    problems += [
        f"{where}: unknown key '{key}'{suggest_name(str(key), KEYS)}"
        for key in text
        if key not in KEYS
    ]
    description = text.get("description", "")
    if not isinstance(description, str) or not description:
        problems.append(f"{where}: description: received {description!r}, expected a sentence")
    search = _hyperparameters(f"{where}: search", text.get("search"), problems)
    exceptions = {
        str(dataset): _hyperparameters(f"{where}: datasets.{dataset}", hyperparameters, problems)
        for dataset, hyperparameters in _mapping(
            f"{where}: datasets", text.get("datasets"), problems
        ).items()
    }
    written = _mapping(
        "", text.get("search"), []
    )  # a hyperparameter with a mistake has a name all the same
    known = {str(name): search.get(str(name), _ANY) for name in written}
    recipe = parse_recipe(f"{where}: recipe", text.get("recipe"), known, problems)
    needs = text.get("needs") or []
    if not isinstance(needs, list) or not all(need in NEEDS for need in needs):
        problems.append(f"{where}: needs: received {needs!r}, expected a list of {list(NEEDS)}")
        needs = []
    settings: Hyperparameters = {}
    for name, value in _mapping(f"{where}: settings", text.get("settings"), problems).items():
        rule = f"one of {list(SETTINGS)}" if name not in SETTINGS else check_setting(name, value)
        if rule is not None:
            problems.append(f"{where}: settings.{name}: received {value!r}, expected {rule}")
        settings[str(name)] = value
    grid = _configurations(f"{where}: grid", text.get("grid"), search, True, problems)
    published = _configurations(
        f"{where}: published", text.get("published"), search, False, problems
    )
    problems += _contradictions(where, search, exceptions, recipe, frozenset(needs))
    for dataset in sorted({*exceptions, *grid, *published} - set(datasets.names())):
        close = difflib.get_close_matches(dataset, datasets.names(), n=1, cutoff=0.8)
        problems += [f"{where}: unknown data set '{dataset}' (did you mean '{c}'?)" for c in close]
    if problems or recipe is None:
        raise ValidationErrors(problems)
    return Method(
        path.stem, description, str(text.get("paper", "")),
        frozenset(needs) | (recipe.needs & IMPLIED), recipe, settings, search, exceptions, grid,
        published,
    )  # fmt: skip


def check_setting(name: str, value: object) -> str | None:
    """Return the rule that a value for a field of the training config breaks, or None."""
    if name == "model":
        return models.check_model_name(str(value))
    if name == "augmentation":
        known = sorted(component_classes("augmentations"))
        return None if value in known else f"one of {known}"
    return TRAINING_CONFIG_RULES[name].broken_rule(value)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _mapping(where: str, text: object, problems: list[str]) -> Mapping[Any, Any]:
    if text is None:
        return {}
    if not isinstance(text, Mapping):
        problems.append(f"{where}: received {text!r}, expected a mapping")
        return {}
    return text


def _hyperparameters(where: str, text: object, problems: list[str]) -> dict[str, Hyperparameter]:
    found = {}
    for name, domain in _mapping(where, text, problems).items():
        if name in SETTINGS:
            problems.append(
                f"{where}.{name}: belongs to the benchmark; a method defines only the "
                "hyperparameters that it adds"
            )
        hyperparameter = hyperparameter_files.parse(f"{where}.{name}", domain, problems)
        if hyperparameter is not None:
            found[str(name)] = hyperparameter
    return found


def _configurations(
    where: str, text: object, search: Mapping[str, Hyperparameter], lists: bool, problems: list[str]
) -> dict[str, Any]:
    """Read ``grid`` (lists of values) or ``published`` (values), per benchmark."""
    found: dict[str, Any] = {}
    for dataset, values in _mapping(where, text, problems).items():
        config = dict(_mapping(f"{where}.{dataset}", values, problems))
        for name, value in config.items():
            key = f"{where}.{dataset}.{name}"
            if name not in search and name not in SETTINGS:
                problems.append(
                    f"{key}: "
                    + unknown_name_message("hyperparameter", str(name), (*search, *SETTINGS))
                )
            elif lists and not (isinstance(value, list) and value):
                problems.append(f"{key}: received {value!r}, expected a list of values")
            elif name in SETTINGS:
                rules = {check_setting(name, v) for v in (value if lists else [value])} - {None}
                problems += [f"{key}: received {value!r}, expected {rule}" for rule in rules]
            elif not all(_alike(search[name], v) for v in (value if lists else [value])):
                problems.append(
                    f"{key}: received {value!r}, expected values like the hyperparameter's"
                )
        found[str(dataset)] = config
    return found


def _alike(hyperparameter: Hyperparameter, value: object) -> bool:
    """Return whether a value is of the right kind; published values may be out of our ranges."""
    words = isinstance(hyperparameter.default, str)
    return isinstance(value, str) if words else isinstance(value, (int, float))


def _contradictions(
    where: str,
    search: Mapping[str, Hyperparameter],
    exceptions: Mapping[str, Mapping[str, Hyperparameter]],
    recipe: Recipe | None,
    needs: frozenset[str],
) -> list[str]:
    found = [
        f"{where}: datasets.{dataset}: {unknown_name_message('hyperparameter', name, search)}"
        for dataset, hyperparameters in exceptions.items()
        for name in hyperparameters
        if name not in search
    ]
    known = (*search, *SETTINGS)
    for name, hyperparameter in search.items():
        found += [
            f"{where}: search.{name}.when: {unknown_name_message('hyperparameter', other, known)}"
            for other in hyperparameter.when
            if other not in known
        ]
        for other, values in hyperparameter.when.items():
            rules = [search[other].broken_rule(v) for v in values] if other in search else []
            found += [
                f"{where}: search.{name}.when.{other}: received {list(values)}, expected {rule}"
                for rule in rules
                if rule is not None
            ]
    try:
        hyperparameter_files.ordered(search)
    except ValueError as error:
        found.append(f"{where}: search: {error}")
    if recipe is not None:
        conditions = {other for hyperparameter in search.values() for other in hyperparameter.when}
        used = recipe.references | conditions
        found += [f"{where}: search.{name}: no part of the recipe uses it"
                  for name in search if name not in used]  # fmt: skip
        found += [f"{where}: needs: the recipe needs {need}, which is not listed"
                  for need in sorted(recipe.needs - needs - IMPLIED)]  # fmt: skip
    return found
