"""``civilcomments_small``: the part of CivilComments on which System 1 reports its results."""

from dataclasses import replace
from typing import ClassVar

from datasets.groups.comment_table import COARSE_GROUPS, SmallComments


class CivilCommentsSmall(SmallComments):
    """Toxicity on 20,675 rows, judged by the worst of 16 groups; 4 groups in training."""

    name = "civilcomments_small"
    version = "2"
    grouping = "coarse"
    separate_train_groups = COARSE_GROUPS
    published_counts: ClassVar = {
        "train": (4727, 7421, 997, 625),
        **SmallComments.published_counts,
    }
    card = replace(SmallComments.card, sizes={"train": 13_770, "validation": 2_039, "test": 4_866})
