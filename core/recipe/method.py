"""Methods: a recipe and the hyperparameters that it adds, as a YAML file describes them."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import UserError
from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar
from core.recipe.recipe import Recipe
from datasets.benchmark import Benchmark

NEEDS = ("train_groups", "validation_groups", "tasks", "encoder", "images", "text")
IMPLIED_NEEDS = frozenset({"classification"})  # needs that a file does not list


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
        options: Hyperparameters with the defaults of the recipe's components, fixed unless a
            command searches them, which keys leave out at their defaults.
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
    options: Mapping[str, Hyperparameter]
    exceptions: Mapping[str, Mapping[str, Hyperparameter]]
    grid: Mapping[str, Mapping[str, list[Scalar]]]
    published: Mapping[str, Hyperparameters]

    def check_benchmark(self, benchmark: Benchmark) -> None:
        """Refuse a benchmark that lacks a property that the method needs.

        Raises:
            UserError: If a property is missing.
        """
        missing = sorted(self.needs - benchmark.provides)
        if missing:
            raise UserError(
                f"method '{self.name}' needs {', '.join(missing)}, "
                f"which data set '{benchmark.name}' does not provide"
            )
