"""``civilcomments_fine``: CivilComments with the 16 groups of evaluation in training too."""

from datasets.groups.comment_table import FullComments


class CivilCommentsFine(FullComments):
    """Toxicity, judged by the worst of 16 groups, which training has too."""

    name = "civilcomments_fine"
    version = "2"
    grouping = "fine"
