"""A figure with its words."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """A figure with its words.

    Args:
        name: Its name among the figures of the report, and of its files.
        title: Its title.
        description: Its text alternative: the message and its main numbers.
        figure: The drawing.
        hints: Texts that a mark shows under the pointer: the group id of an artist, and a text per
            mark in it, in the order of drawing.
        note: A sentence below it on how to read it.
    """

    name: str
    title: str
    description: str
    figure: Figure
    hints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    note: str = ""


MAX_NAME = 24  # characters, in a figure
UNPRINTABLE = ("Cc", "Cf", "Cn", "Co", "Cs")  # categories of Unicode


def shorten_name(name: str) -> str:
    """Return a name as figures show it: on one line, and not too long."""
    text = " ".join(clean_text(name).split())
    text = text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"
    return f" {text}" if text.startswith("_") else text  # legends leave out what starts with one


def list_words(items: Sequence[str], most: int = 12) -> str:
    """Return a list as a sentence has it; long ones end with the number of the rest."""
    shown = list(items[:most])
    if len(items) > most:
        shown.append(f"and {len(items) - most} more")
    return ", ".join(shown)


def clean_text(text: str) -> str:
    """Return a text without control characters, marks of direction included; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(
        "\ufffd" if unicodedata.category(char) in UNPRINTABLE and char != "\n" else char
        for char in text
    )
