"""``civilcomments_small_fine``: the small part with the 16 groups of evaluation in training too."""

from typing import ClassVar

from datasets.groups.civilcomments_small import CivilCommentsSmall


class CivilCommentsSmallFine(CivilCommentsSmall):
    """Toxicity on 15,721 rows, judged by the worst of 16 groups, which training has too."""

    name = "civilcomments_small_fine"
    version = "1"
    grouping = "fine"
    training_groups = None
    published_counts: ClassVar = {
        **CivilCommentsSmall.published_counts,
        "train": (
            *(1381, 1683, 425, 1322, 657, 399, 481, 714),
            *(282, 302, 179, 178, 206, 97, 208, 302),
        ),
    }
