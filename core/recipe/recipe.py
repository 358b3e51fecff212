"""Recipes: the four parts of a method, with names of hyperparameters where a search may choose.

The vocabulary is closed: samplers of :mod:`core.samplers`, and the files of ``core/objectives``,
``core/weighting/methods`` and ``core/stages``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.hyperparameters import Scalar
from core import models
from core.objectives.base import Objective
from core.recipe.component import (
    Component,
    component_classes,
    make_objective,
    make_stage,
    make_weighting,
    read_defaults,
)
from core.recipe.coverage import Coverage, decode_weighting
from core.recipe.splitting import why_unsplittable
from core.registry import find_components
from core.samplers import SAMPLER_NEEDS
from core.stages.base import Stage, count_stage_epochs
from core.weighting.base import AlphaFairWeighting, GramWeighting, Weighting
from datasets.benchmark import Benchmark
from datasets.training_config import TrainingConfig

PARTS = ("sampler", "objectives", "weighting", "stages")


class EpochCounts(NamedTuple):
    """The epochs of a run.

    Args:
        eligible: Epochs of the stages that selection may choose from.
        total: Epochs of all stages.
    """

    eligible: int
    total: int


class StageEpochs(NamedTuple):
    """The epochs of a stage.

    Args:
        epochs: Their number.
        is_eligible: Whether selection may choose one of them.
    """

    epochs: int
    is_eligible: bool


class LossNames(NamedTuple):
    """The losses of a recipe on a benchmark.

    Args:
        names: The names of all losses, in order.
        fixed_weights: Weights of the losses that the weighting does not cover, by name.
    """

    names: tuple[str, ...]
    fixed_weights: Mapping[str, float]

    @property
    def covered(self) -> list[str]:
        """The names of the losses that the weighting covers, in order."""
        return [name for name in self.names if name not in self.fixed_weights]


@dataclass(frozen=True)
class Recipe:
    """Sampler, objectives, weighting and stages, with values or with names of hyperparameters.

    Args:
        sampler: The name of the sampler.
        objectives: The objectives.
        weighting: The weighting.
        stages: The stages, in order.
        coverage: The losses that the weighting covers, and the weights of the others.
    """

    sampler: str
    objectives: tuple[Component, ...]
    weighting: Component
    stages: tuple[Component, ...]
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def needs(self) -> frozenset[str]:
        """The properties that a benchmark must provide."""
        objectives = find_components("core.objectives", Objective)
        stages = find_components("core.stages", Stage)
        return SAMPLER_NEEDS[self.sampler].union(
            *(objectives[part.name].needs for part in self.objectives),
            *(stages[part.name].needs for part in self.stages),
        )

    @property
    def references(self) -> frozenset[str]:
        """The strings among the parameters, which may be names of hyperparameters."""
        parts = (*self.objectives, self.weighting, self.coverage.fixed, *self.stages)
        return frozenset(name for part in parts for name in part.references)

    def list_defaults(self) -> dict[str, list[Any]]:
        """Return the components' own defaults for the parameters that name a hyperparameter."""
        found: dict[str, list[Any]] = {}
        for part, components in (
            ("objectives", self.objectives),
            ("weighting", (self.weighting,)),
            ("stages", self.stages),
        ):
            for component in components:
                defaults = read_defaults(component_classes(part)[component.name])
                for parameter, value in component.parameters.items():
                    if isinstance(value, str) and parameter in defaults:
                        found.setdefault(value, []).append(defaults[parameter])
        return found

    def with_values(self, values: Mapping[str, Scalar], omitted: Collection[str] = ()) -> "Recipe":
        """Return the recipe with values for the hyperparameters that it names.

        Args:
            values: The values by name.
            omitted: Hyperparameters whose parameters are left out, since their values are the
                components' own defaults.
        """
        return Recipe(
            self.sampler,
            tuple(part.with_values(values, omitted) for part in self.objectives),
            self.weighting.with_values(values, omitted),
            tuple(part.with_values(values, omitted) for part in self.stages),
            self.coverage.with_values(values),
        )

    def count_epochs(self, epochs: int, cover: str = "stage") -> EpochCounts:
        """Return the epochs of a recipe with values.

        Args:
            epochs: The training config's epochs, for stages that name none.
            cover: The training config's ``epochs_cover``.

        Raises:
            ValueError: If ``epochs`` cover all stages, and are too few for them.
        """
        stages = self.list_stage_epochs(epochs, cover)
        eligible = sum(stage.epochs for stage in stages if stage.is_eligible)
        return EpochCounts(eligible, sum(stage.epochs for stage in stages))

    def list_stage_epochs(self, epochs: int, cover: str = "stage") -> tuple[StageEpochs, ...]:
        """Return the epochs of each stage of a recipe with values.

        Args:
            epochs: The training config's epochs, for stages that name none.
            cover: The training config's ``epochs_cover``.

        Raises:
            ValueError: If ``epochs`` cover all stages, and are too few for them.
        """
        stages = [make_stage(part) for part in self.stages]
        counts = count_stage_epochs(stages, epochs, cover)
        pairs = zip(counts, stages, strict=True)
        return tuple(StageEpochs(count, stage.eligible) for count, stage in pairs)

    def name_losses(self, objectives: Sequence[Objective], benchmark: Benchmark) -> LossNames:
        """Return the losses of a recipe with values on a benchmark.

        Args:
            objectives: The recipe's objectives.
            benchmark: The benchmark.

        Raises:
            ValueError: If a loss is given twice, or a weight names no loss.
        """
        losses = [
            (part.name, objective.name_losses(benchmark))
            for part, objective in zip(self.objectives, objectives, strict=True)
        ]
        names = tuple(name for _, of_objective in losses for name in of_objective)
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"duplicate loss name '{name}'")
        return LossNames(names, self.coverage.find_fixed_weights(losses))

    def check_compatibility(self, benchmark: Benchmark, config: TrainingConfig) -> None:
        """Refuse a recipe with values that cannot work on a benchmark.

        Args:
            benchmark: The benchmark.
            config: The training config.

        Raises:
            ValueError: If a parameter is invalid, a loss is given twice, a weight names no loss,
                no stage is eligible for selection, the weighting does not support the strategy for
                task gradients, or batches cannot be split.
        """
        objectives = [make_objective(part) for part in self.objectives]
        losses = self.name_losses(objectives, benchmark)
        weighting = make_weighting(self.weighting)
        weighting.setup(losses.covered)
        _check_strategy(weighting, config)
        stages = [make_stage(part) for part in self.stages]
        if not any(stage.eligible for stage in stages):
            raise ValueError("no stage is eligible for selection")
        if 0 < config.microbatch < config.batch_size:
            for stage in stages:
                reason = why_unsplittable(filter(stage.uses_objective, objectives), weighting)
                if reason and not stage.splits_validation:  # which takes no steps
                    raise ValueError(
                        f"microbatch: received {config.microbatch}, expected 0: batches cannot be "
                        f"split: {reason}"
                    )

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, ready for JSON: part of a trial's key."""
        return {
            "sampler": self.sampler,
            "objectives": [part.as_dict() for part in self.objectives],
            "weighting": self.coverage.encode_weighting(self.weighting),
            "stages": [part.as_dict() for part in self.stages],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that :meth:`as_dict` encoded.

        Raises:
            TypeError: If a part is missing or unknown.
        """
        return cls._decode(**data)

    @classmethod
    def _decode(
        cls,
        sampler: str,
        objectives: Sequence[Mapping[str, Any]],
        weighting: Mapping[str, Any],
        stages: Sequence[Mapping[str, Any]],
    ) -> "Recipe":
        component, coverage = decode_weighting(weighting)
        return cls(
            sampler,
            tuple(Component.from_dict(part) for part in objectives),
            component,
            tuple(Component.from_dict(part) for part in stages),
            coverage,
        )


def _check_strategy(weighting: Weighting, config: TrainingConfig) -> None:
    """Refuse a strategy for task gradients that cannot work.

    Raises:
        ValueError: If the weighting does not support it, or compilation hides the features.
    """
    strategy = config.gradients
    if strategy == "representation" and not isinstance(weighting, GramWeighting):
        raise ValueError("gradients=representation requires a Gram-matrix weighting")
    if strategy == "matrix_free" and not isinstance(weighting, AlphaFairWeighting):
        raise ValueError("gradients=matrix_free supports only fairgrad and nashmtl")
    # A compiled model is one node of the graph. Transformers compile their blocks alone.
    if (
        strategy in ("representation", "matrix_free")
        and config.compile
        and models.lacks_hidden_states(config.model)
    ):
        raise ValueError(
            f"gradients={strategy} needs the features of the model, which compile=true hides; use "
            "compile=false or gradients=exact"
        )
