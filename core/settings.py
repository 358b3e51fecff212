"""``--set key=value``."""

from collections.abc import Sequence

import yaml

from core.method import read_yaml
from datasets.errors import Problems
from datasets.knobs import Config


def pairs(texts: Sequence[str]) -> Config:
    """Return the values of ``key=value`` arguments, read as YAML scalars.

    Raises:
        Problems: If one is not of that form, or a key stands twice with different values.
    """
    found: Config = {}
    problems = []
    for text in texts:
        name, sign, value_text = text.partition("=")
        try:
            value = read_yaml(value_text)
        except yaml.YAMLError:
            value = None
        if not sign or not name or not isinstance(value, (bool, int, float, str)):
            problems.append(f"--set: received '{text}', expected key=value, such as lr=0.01")
        elif name in found and found[name] != value:
            problems.append(f"--set: {name} stands twice, with {found[name]!r} and {value!r}")
        else:
            found[name] = value
    if problems:
        raise Problems(problems)
    return found
