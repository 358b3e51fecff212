"""A report over records of two data sets, made once."""

import pytest

from tests.support.study_records import StudyNames, write_studies
from tuning.records.open_storage import open_storage
from tuning.reporting.report.read_studies import RecordSource
from tuning.reporting.report.write_report import make_report

# Names that would break out of HTML, SVG, scripts, styles or mathematical text.
HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></svg>&amp;'",
    "$x_1$ = 5%", "=cmd|' /C calc'!A0", "\u202edigits\u202c", "]]>--><!-- \x07",
    "{{ 7 * 7 }}", "{% raise %}", "javascript:alert(1)",
)  # fmt: skip
GROUPS = StudyNames(
    dataset="</title><script>alert(2)</script>", methods=(HOSTILE[0], " ".join(HOSTILE)),
    parts=HOSTILE[:4], reason=HOSTILE[1], choice=HOSTILE[0],
    space={
        "lr": {"log_uniform": [0.001, 0.1], "default": 0.01},
        "batch_size": {"choice": [16, 32], "default": 32},
        "optimizer": {"choice": [HOSTILE[0], "adam"], "default": "adam"},
    },
)  # fmt: skip
TASKS = StudyNames(dataset="two_digits", methods=("ls", "uw", "famo"), has_groups=False)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[RecordSource]:
    """Records of a data set of groups with hostile names, and of one of tasks."""
    root = tmp_path_factory.mktemp("records")
    for names in (GROUPS, TASKS):
        write_studies(root, names)
    return [RecordSource("<results>", open_storage(root))]


@pytest.fixture(scope="session")
def page(sources: list[RecordSource]) -> str:
    """The report over them."""
    return make_report(sources)
