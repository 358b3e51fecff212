"""Values of options: numbers with a lower bound, durations, shares of a GPU."""

import argparse
import re
from collections.abc import Callable
from typing import Final, Literal, overload

AUTO: Final = "auto"
Gpus = float | Literal["auto"] | None  # of a trial, as asked
SECONDS_PER_UNIT = {"": 1, "s": 1, "m": 60, "h": 3600}


@overload
def at_least(lowest: int) -> Callable[[str], int]: ...
@overload
def at_least(lowest: float) -> Callable[[str], float]: ...
def at_least(lowest: float) -> Callable[[str], float]:
    """Return a converter of numbers from ``lowest``, of integers if that is one."""
    whole = isinstance(lowest, int)
    kind = "an integer" if whole else "a number"

    def convert_number(text: str) -> float:
        try:
            value: float = int(text) if whole else float(text)
        except ValueError:
            value = lowest - 1
        if not value >= lowest or value == float("inf"):
            raise argparse.ArgumentTypeError(f"received '{text}', expected {kind} from {lowest:g}")
        return value

    return convert_number


def parse_gpus(text: str) -> Gpus:
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


def parse_duration(text: str) -> float:
    """Read a duration such as 90s, 30m or 2h in seconds, which is also a bare number's unit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found or float(found.group(1)) <= 0:
        raise argparse.ArgumentTypeError(f"received '{text}', expected a time such as 30m or 2h")
    return float(found.group(1)) * SECONDS_PER_UNIT[found.group(2)]
