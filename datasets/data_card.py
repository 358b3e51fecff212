"""Data cards: facts about a benchmark's data that its users should know."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataCard:
    """The facts that ``python -m datasets.describe`` prints besides counts.

    Args:
        title: One sentence.
        source: Where the data come from.
        licence: The terms of use.
        paper: The publication to cite.
        notes: Further facts, a sentence each.
    """

    title: str
    source: str
    licence: str
    paper: str
    notes: tuple[str, ...] = ()
