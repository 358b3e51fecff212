"""Options that several commands share: their help texts and the values of three of them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError, ValidationErrors
from common.hyperparameters import KINDS, Hyperparameters, Scalar
from common.yaml_files import parse_yaml

DATA_ROOT_HELP = "folder of the data sets"
BASELINE_HELP = "single-task baseline for delta-m, in the format of tune.py export --baseline"
EPOCHS_HELP = "epochs of the stages whose length the method does not set"
SET_HELP = "fix a hyperparameter or a training-config field, such as lr=0.01; repeatable"
PRECISION_HELP = (
    "number format of the models' arithmetic; auto takes bfloat16 on GPUs that support it"
)
DETERMINISTIC_HELP = "bit-identical results on CUDA too, at a lower speed; CPUs always give them"


def check_epochs(config: Hyperparameters, epochs: int | None) -> None:
    """Refuse epochs that both ``--set`` and ``--epochs`` give.

    Raises:
        UserError: If both do.
    """
    if epochs is not None and "epochs" in config:
        raise UserError("give either --epochs or --set epochs=..., not both")


def read_baseline(path: str | Path | None) -> str:
    """Return the text of a baseline file; empty if none is given.

    Raises:
        UserError: If it cannot be read.
    """
    if path is None:
        return ""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--baseline: cannot read '{path}': {error}") from None
    if not text.strip():
        raise UserError(f"--baseline: '{path}' is empty")
    return text


def parse_assignments(texts: Sequence[str]) -> Hyperparameters:
    """Return the values of ``key=value`` arguments, read as YAML scalars.

    Raises:
        ValidationErrors: If one is not of that form, or a key is given two values.
    """
    found: Hyperparameters = {}
    problems = []
    for text in texts:
        name, sign, value_text = text.partition("=")
        if several := _separate_assignments(text):
            problems.append(f"--set: received '{text}', expected one each: {several}")
            continue
        if name != name.strip() or value_text != value_text.strip():
            spaced = f"{name.strip()}={value_text.strip()}"
            problems.append(f"--set: received '{text}': write {spaced} without spaces")
            continue
        try:
            value = parse_yaml(value_text)
        except UserError as error:
            problems.append(f"--set: received '{text}': {error}")
            continue
        if not sign or not name or not isinstance(value, (bool, int, float, str)):
            problems.append(f"--set: received '{text}', expected {_name_expected(name, value)}")
        elif str(value).partition(":")[0] in KINDS and ":" in str(value):
            problems.append(
                f"--set: received '{text}': tune.py searches a domain; one run takes a value, such "
                f"as {name}=0.01"
            )
        elif name in found and found[name] != value:
            problems.append(f"--set: {name} is given twice: {found[name]!r} and {value!r}")
        else:
            found[name] = value
    if problems:
        raise ValidationErrors(problems)
    return found


def _separate_assignments(text: str) -> str:
    """Return the options of an argument that holds several assignments; empty for one."""
    parts = re.split(r"[,;\s]+(?=[A-Za-z_]\w*=)", text.strip())
    return " ".join(f"--set {part}" for part in parts) if len(parts) > 1 else ""


def _name_expected(name: str, value: object) -> str:
    if name and isinstance(value, list) and value:
        return f"a value or a domain, such as {name}=choice:{','.join(map(str, value))}"
    return "key=value, such as lr=0.01"


def format_assignment(name: str, value: Scalar) -> str:
    """Return the argument of ``--set`` that :func:`parse_assignments` reads as a value."""
    try:
        is_read = not isinstance(value, bool) and parse_yaml(str(value)) == value
    except UserError:
        is_read = False
    return f"{name}={value if is_read else json.dumps(value, ensure_ascii=False)}"
