"""Components of recipes: a name, its parameters, and the class of that name."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from common.hyperparameters import Scalar
from core.augmentations.base import Augmentation
from core.objectives.base import Objective
from core.registry import find_component, find_components, find_mistake
from core.stages.base import Stage
from core.weighting.base import Weighting

T = TypeVar("T")
Parameter = Scalar | Mapping[str, Scalar] | None

PACKAGES: Mapping[str, tuple[str, type]] = {
    "objectives": ("core.objectives", Objective),
    "weighting": ("core.weighting.methods", Weighting),
    "stages": ("core.stages", Stage),
    "augmentations": ("core.augmentations", Augmentation),
}


@dataclass(frozen=True)
class Component:
    """A component of a recipe.

    Args:
        name: The name of its class's file.
        parameters: Arguments of its class: values, or names of hyperparameters.
    """

    name: str
    parameters: Mapping[str, Parameter]

    @property
    def references(self) -> frozenset[str]:
        """The strings among the parameters, which may be names of hyperparameters."""
        found: set[str] = set()
        for value in self.parameters.values():
            inner = value.values() if isinstance(value, Mapping) else (value,)
            found |= {word for word in inner if isinstance(word, str)}
        return frozenset(found)

    def with_values(
        self, values: Mapping[str, Scalar], omitted: Collection[str] = ()
    ) -> "Component":
        """Return the component with values for the hyperparameters that it names.

        Args:
            values: The values by name.
            omitted: Hyperparameters whose parameters are left out, since their values are the
                component's own defaults.
        """

        def substitute(value: Scalar) -> Scalar:
            return values.get(value, value) if isinstance(value, str) else value

        parameters: dict[str, Parameter] = {}
        for name, value in self.parameters.items():
            if isinstance(value, Mapping):
                parameters[name] = {key: substitute(inner) for key, inner in value.items()}
            elif not (isinstance(value, str) and value in omitted):
                parameters[name] = None if value is None else substitute(value)
        return Component(self.name, parameters)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return ``{name: parameters}``, ready for JSON."""
        return {
            self.name: {
                name: dict(value) if isinstance(value, Mapping) else value
                for name, value in self.parameters.items()
            }
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Parameter]]) -> "Component":
        """Return the component that :meth:`as_dict` encoded."""
        ((name, parameters),) = data.items()
        return cls(name, dict(parameters))


def component_classes(part: str) -> dict[str, type]:
    """Return the classes that a part of a recipe may name, by name.

    Args:
        part: A key of :data:`PACKAGES`.
    """
    return dict(find_components(*PACKAGES[part]))


def find_component_mistake(part: str, name: str) -> str | None:
    """Return the mistake in a component's file, in one line; None if there is none."""
    return find_mistake(*PACKAGES[part], name)


def read_defaults(component_class: type) -> dict[str, Any]:
    """Return the default of each parameter of a component's class that has one, by name."""
    parameters = inspect.signature(component_class).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def make_objective(component: Component) -> Objective:
    """Return the objective that a component with values describes."""
    return _make("core.objectives", Objective, component)


def make_weighting(component: Component) -> Weighting:
    """Return the weighting that a component with values describes."""
    return _make("core.weighting.methods", Weighting, component)


def make_stage(component: Component) -> Stage:
    """Return the stage that a component with values describes."""
    return _make("core.stages", Stage, component)


def make_augmentation(name: str) -> Augmentation:
    """Return the augmentation of a name."""
    return _make("core.augmentations", Augmentation, Component(name, {}))


def _make(package: str, base: type[T], component: Component) -> T:
    make: Callable[..., T] = find_component(package, base, component.name)
    return make(**component.parameters)
