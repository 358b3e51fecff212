"""``civilcomments_small_fine``: the small part with the 16 groups of evaluation in training too."""

from dataclasses import replace
from typing import ClassVar

from datasets.groups.comment_table import SmallComments


class CivilCommentsSmallFine(SmallComments):
    """Toxicity on 15,721 rows, judged by the worst of 16 groups, which training has too."""

    name = "civilcomments_small_fine"
    version = "2"
    grouping = "fine"
    published_counts: ClassVar = {
        "train": (
            *(1381, 1683, 425, 1322, 657, 399, 481, 714),
            *(282, 302, 179, 178, 206, 97, 208, 302),
        ),
        **SmallComments.published_counts,
    }
    card = replace(SmallComments.card, sizes={"train": 8_816, "validation": 2_039, "test": 4_866})
