"""Data cards: what a reader should know of a benchmark's data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataCard:
    """What ``python -m datasets.describe`` prints besides what it counts.

    Args:
        title: One sentence.
        source: Where the data come from.
        licence: The terms of use.
        paper: The publication to cite.
        notes: What else matters, a sentence each.
    """

    title: str
    source: str
    licence: str
    paper: str
    notes: tuple[str, ...] = ()
