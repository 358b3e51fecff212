"""What the command lines' numbers and times must be."""

import argparse
import re

from tuning.options import AUTO, Gpus


def at_least(lowest: float, whole: bool) -> type:
    """Return a converter of numbers not below ``lowest``."""

    def convert(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = lowest - 1
        if not value >= lowest or value == float("inf"):
            kind = "a whole number" if whole else "a number"
            raise argparse.ArgumentTypeError(f"received '{text}', expected {kind} from {lowest:g}")
        return value

    return convert  # type: ignore[return-value]  # argparse takes any callable


def share(text: str) -> Gpus:
    """Read a share of a GPU in (0, 1], a number of GPUs, 0 or ``auto``."""
    if text == AUTO:
        return AUTO
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or (value.is_integer() and value > 0)):
        raise argparse.ArgumentTypeError(
            f"received '{text}', expected a share such as 0.25, a number of GPUs, or auto"
        )
    return value


def duration(text: str) -> float:
    """Read a duration such as 90s, 30m or 2h; a bare number is in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found or float(found.group(1)) <= 0:
        raise argparse.ArgumentTypeError(f"received '{text}', expected a time such as 30m or 2h")
    return float(found.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600}[found.group(2)]
