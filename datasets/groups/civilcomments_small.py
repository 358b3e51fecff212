"""``civilcomments_small``: the part of CivilComments on which System 1 reports its results."""

from pathlib import Path
from typing import ClassVar, NoReturn

from common.errors import UserError
from datasets.data_card import DataCard
from datasets.groups.civilcomments import CivilComments


class CivilCommentsSmall(CivilComments):
    """Toxicity on 20,675 rows, judged by the worst of 16 groups; 4 groups in training."""

    name = "civilcomments_small"
    version = "1"
    folder_name = "civilcomments_small"
    published_counts: ClassVar = {
        "train": (4727, 7421, 997, 625),
        "validation": (277, 335, 118, 282, 148, 97, 107, 176, 73, 70, 54, 51, 70, 34, 67, 80),
        "test": (710, 802, 271, 709, 374, 254, 283, 380, 156, 171, 120, 107, 132, 72, 157, 168),
    }
    card = DataCard(
        title="A part of CivilComments: comments, toxic or not, and the identities they mention.",
        source="tables: https://github.com/athrvkk/MTL-group-robustness; the texts are those of "
        "CivilComments-WILDS, but which ones is not published",
        licence="tables MIT, texts CC0",
        paper="Kulkarni et al., Multitask Learning Can Improve Worst-Group Outcomes, TMLR 2024; "
        "texts: Borkan et al., WWW 2019",
        notes=(
            "Put metadata_civilcomments_small_coarse.csv and the texts of its rows, "
            "civilcomments_small_coarse.csv (column comment_text), into the folder.",
            "The texts contain slurs and insults.",
        ),
    )

    @property
    def original(self) -> Path:
        """Nothing: which rows of WILDS' file these are is not published."""
        return self.folder / "none"

    def _refuse(self) -> NoReturn:
        missing = [str(path) for path in (self.table_path, self.text_path) if not path.is_file()]
        raise UserError(
            f"{' and '.join(missing)}: missing; tables are in "
            "https://github.com/athrvkk/MTL-group-robustness, the texts of their rows (column "
            "comment_text) are with its authors"
        )
