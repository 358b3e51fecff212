"""Check the conditions (``when:``) of hyperparameters against the values that can occur."""

from collections.abc import Iterator, Mapping

from common.errors import unknown_name_message
from common.hyperparameters import Hyperparameter, find_impossible
from core.recipe.training_rules import TRAINING_CONFIG_FIELDS, broken_training_rule


def find_condition_mistakes(
    conditional: Mapping[str, Hyperparameter], search: Mapping[str, Hyperparameter]
) -> Iterator[str]:
    """Yield the mistakes in conditions, each after its key, such as ``momentum.when``.

    The values are checked as those of the hyperparameters and training-config fields that the
    conditions name. A condition must be possible, together with those that it depends on.

    Args:
        conditional: The hyperparameters whose values in conditions are checked.
        search: All hyperparameters that are searched together, those of ``conditional`` included.
    """
    mistakes = list(_find_wrong_values(conditional, search))
    if mistakes:
        yield from mistakes
        return
    try:
        for name in find_impossible(search):
            yield f".{name}.when: no values fulfill this condition"
    except ValueError as error:
        yield f": {error}"


def _find_wrong_values(
    conditional: Mapping[str, Hyperparameter], search: Mapping[str, Hyperparameter]
) -> Iterator[str]:
    known = dict.fromkeys((*search, *TRAINING_CONFIG_FIELDS))
    for name, hyperparameter in conditional.items():
        for other, values in hyperparameter.when.items():
            if other not in known:
                message = unknown_name_message("hyperparameter", other, known)
                yield f".{name}.when: {message}"
                continue
            for value in values:
                if other in TRAINING_CONFIG_FIELDS:
                    rule = broken_training_rule(other, value)
                else:
                    rule = search[other].find_broken_rule(value)
                if rule is not None:
                    yield f".{name}.when.{other}: received {value!r}, expected {rule}"
