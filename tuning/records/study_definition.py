"""The definition of a study: everything that a resumed study must share with it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar
from core.environment import Environment
from core.recipe.recipe import Recipe
from datasets.environments.config import decode_training_config
from datasets.training_config import TrainingConfig
from tuning.records.decoding import decode_fields, decode_optional


@dataclass(frozen=True)
class StudyDefinition:
    """The content of ``study.json``.

    Args:
        dataset: The benchmark.
        dataset_version: Its version, and its baseline where it has one.
        data_hash: Hash of its data.
        recipe: The method's recipe, with names of hyperparameters.
        space: The hyperparameters that are searched.
        pinned: Values that ``--set`` fixes.
        training_config: The training config with default values.
        epochs: The ``--epochs`` option.
        search: The ``--search`` option.
        search_seeds: The ``--search-seeds`` option.
        scheduler: The ``--scheduler`` option.
        select: Name of the selection rule.
        study_seed: The ``--study-seed`` option.
        audit_test: The ``--audit-test`` option.
        keep_models: The ``--keep-models`` option.
        environment: Where trials compute; None while that is unknown.
        core: Version of the training core.
    """

    dataset: str
    dataset_version: str
    data_hash: str
    recipe: Recipe
    space: Mapping[str, Hyperparameter]
    pinned: Hyperparameters
    training_config: TrainingConfig
    epochs: int | None
    search: str
    search_seeds: int
    scheduler: str
    select: str
    study_seed: int
    audit_test: bool
    keep_models: bool
    environment: Environment | None
    core: int

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``study.json``, without the record version."""
        found = {
            **vars(self),
            "recipe": self.recipe.as_dict(),
            "space": {name: _encode_domain(domain) for name, domain in self.space.items()},
            "set": dict(self.pinned),
            "training_config": self.training_config.as_dict(),
            "environment": None if self.environment is None else asdict(self.environment),
        }
        found.pop("pinned")
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self | None:
        """Return the definition that :meth:`as_dict` encoded; None for anything else."""
        try:
            return decode_fields(
                cls,
                {"pinned" if name == "set" else name: value for name, value in data.items()},
                recipe=Recipe.from_dict,
                space=_decode_space,
                training_config=decode_training_config,
                environment=decode_optional(Environment),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def describe_differences(self, asked: "StudyDefinition") -> list[str]:
        """Return a sentence for each entry in which a command asks for another study."""
        stored, other = _flatten(self.as_dict()), _flatten(asked.as_dict())
        return [
            f"{name}: the study has {_format_entry(name, stored)}, "
            f"this command asks for {_format_entry(name, other)}"
            for name in sorted(stored.keys() | other.keys())
            if name not in stored or name not in other or stored[name] != other[name]
        ]


def _flatten(entries: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the entries of nested mappings by dotted names, such as ``space.lr.high``."""
    flat: dict[str, Any] = {}
    for name, value in entries.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _format_entry(name: str, entries: Mapping[str, Any]) -> str:
    value = entries.get(name)
    if value is not None:
        return repr(value)
    return "the data set's default" if name == "epochs" else "none"


def _encode_domain(domain: Hyperparameter) -> dict[str, Any]:
    when = {name: list(values) for name, values in domain.when.items()}
    found = {**asdict(domain), "values": list(domain.values), "when": when}
    found.pop("has_own_default")  # of commands only
    return found


def _decode_space(data: Mapping[str, Any]) -> dict[str, Hyperparameter]:
    return {name: _decode_domain(domain) for name, domain in data.items()}


def _decode_domain(data: Mapping[str, Any]) -> Hyperparameter:
    return decode_fields(Hyperparameter, data, values=tuple, when=_decode_conditions)


def _decode_conditions(data: Mapping[str, list[Scalar]]) -> dict[str, tuple[Scalar, ...]]:
    return {name: tuple(values) for name, values in data.items()}
