"""The key of a trial: everything that its numbers depend on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from core.environment import Environment
from core.recipe.recipe import Recipe, StageEpochs
from datasets.environments.config import decode_training_config
from datasets.training_config import TrainingConfig

VERSION = 8  # raised when the training core computes other numbers from the same key


@dataclass(frozen=True)
class TrialKey:
    """The arguments of which a training run is a pure function.

    Args:
        dataset: The benchmark's name.
        version: The benchmark's version, and its baseline where it has one.
        recipe: The recipe with values.
        training_config: The training config with the trial's values.
        seed: Seed of weights, sampling and dropout.
        environment: Device class, precision, threads.
        core: Version of the training core.
    """

    dataset: str
    version: str
    recipe: Recipe
    training_config: TrainingConfig
    seed: int
    environment: Environment
    core: int = VERSION

    def list_stage_epochs(self) -> tuple[StageEpochs, ...]:
        """Return the epochs of each stage."""
        config = self.training_config
        return self.recipe.list_stage_epochs(config.epochs, config.epochs_cover)

    def as_dict(self) -> dict[str, Any]:
        """Return the key as plain data, whose canonical JSON is hashed."""
        return {
            "dataset": self.dataset,
            "version": self.version,
            "recipe": self.recipe.as_dict(),
            "settings": self.training_config.as_key(),
            "seed": self.seed,
            "environment": asdict(self.environment),
            "core": self.core,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TrialKey":
        """Return the key that :meth:`as_dict` encoded.

        Raises:
            TypeError: If a field is missing or unknown.
        """
        return cls._decode(**data)

    @classmethod
    def _decode(
        cls,
        dataset: str,
        version: str,
        recipe: Mapping[str, Any],
        settings: Mapping[str, Any],
        seed: int,
        environment: Mapping[str, Any],
        core: int,
    ) -> "TrialKey":
        return cls(
            dataset=dataset,
            version=version,
            recipe=Recipe.from_dict(recipe),
            training_config=decode_training_config(settings),
            seed=seed,
            environment=Environment(**environment),
            core=core,
        )

    @property
    def digest(self) -> str:
        """The key's name: 16 hexadecimal digits."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
