"""Rules for the fields of a training config, including those whose names only core knows."""

from core import models
from core.recipe.component import component_classes, find_component_mistake
from datasets.environments.config import REINFORCEMENT_RULES
from datasets.training_config import TRAINING_CONFIG_RULES

TRAINING_CONFIG_FIELDS = (*TRAINING_CONFIG_RULES, "model", "augmentation")
# Of published configurations, which are for one data set each: of environments too.
PUBLISHED_FIELDS = (*TRAINING_CONFIG_FIELDS, *REINFORCEMENT_RULES)


def broken_training_rule(name: str, value: object, from_scratch: bool = False) -> str | None:
    """Return the rule that a value for a field of the training config breaks, or None.

    Args:
        name: The field.
        value: The value.
        from_scratch: For ``model``: whether its configuration is enough.
    """
    if name == "model":
        return models.check_model_name(str(value), from_scratch)
    if name == "augmentation":
        known = sorted(component_classes("augmentations"))
        if value in known:
            return None
        mistake = find_component_mistake("augmentations", str(value))
        return f"one of {known}" if mistake is None else f"one that can be used: {mistake}"
    if name == "task":
        return None if isinstance(value, str) else "the name of a task"
    if name in REINFORCEMENT_RULES:
        return REINFORCEMENT_RULES[name].find_broken_rule(value)
    return TRAINING_CONFIG_RULES[name].find_broken_rule(value)
