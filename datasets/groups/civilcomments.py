"""``civilcomments``: is a comment toxic, against the identities that it mentions.

The data of WILDS (Koh et al., ICML 2021), grouped as in :mod:`datasets.formats.civilcomments`.
"""

from dataclasses import replace

from datasets.groups.comment_table import COARSE_GROUPS, FullComments


class CivilComments(FullComments):
    """Toxicity, judged by the worst of 16 groups; 4 groups in training."""

    name = "civilcomments"
    version = "2"
    grouping = "coarse"
    separate_train_groups = COARSE_GROUPS
    card = replace(
        FullComments.card,  # comments, of which validation and test have some several times
        sizes={"train": 269_038, "validation": 45_180, "test": 133_782},
    )
