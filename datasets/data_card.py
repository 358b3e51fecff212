"""Data cards: facts about a benchmark's data that its users should know."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataCard:
    """The facts that ``python -m datasets.describe`` prints besides counts.

    Args:
        title: One sentence.
        source: Where the data come from.
        license: The terms of use.
        paper: The publication to cite.
        notes: Further facts, a sentence each.
        sizes: Published number of examples by split, from which a study can be planned where the
            data are not; empty where unknown.
    """

    title: str
    source: str
    license: str
    paper: str
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
