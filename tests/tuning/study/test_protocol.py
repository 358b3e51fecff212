"""``--protocol published`` trains as the authors; ``--search published`` says where it does not."""

from dataclasses import replace
from pathlib import Path

import pytest

import datasets
from common.errors import UserError
from tuning.cli.main import main
from tuning.cli.make_options import make_options
from tuning.cli.parser import make_parser
from tuning.options import Options
from tuning.study.protocol import apply_protocol

LAST10 = "--select published_last10 --audit-test --set training_split=train_and_validation"
# The options that the protocol stands for, beside --search published.
EXPANDED = {
    "nyuv2": LAST10,
    "cityscapes": LAST10,
    "celeba40": "--select validation_mean_f1",
    "qm9": "",
    "waterbirds": "",
    "civilcomments_small": "",
    "two_digits": "",
}


def read_options(dataset: str, given: str) -> Options:
    command = ["--method", "fairgrad", "--dataset", dataset, *given.split()]
    return make_options(make_parser().parse_args(command))


@pytest.mark.parametrize(("dataset", "given"), EXPANDED.items())
def test_the_protocol_stands_for_options(dataset: str, given: str) -> None:
    benchmark = datasets.load_benchmark(dataset)
    found, lines = apply_protocol(read_options(dataset, "--protocol published"), benchmark)
    written = f"--search published {given}".strip()
    assert replace(found, protocol=None) == read_options(dataset, written)
    (line,) = lines
    assert line.startswith("--protocol published: ")
    assert read_options(dataset, line.partition(": ")[2]) == read_options(dataset, written)


@pytest.mark.parametrize("dataset", ["nyuv2", "celeba40", "qm9"])
def test_the_same_options_may_be_given_beside_it(dataset: str) -> None:
    both = f"--protocol published --search published {EXPANDED[dataset]}"
    benchmark = datasets.load_benchmark(dataset)
    found, _ = apply_protocol(read_options(dataset, both), benchmark)
    assert found == apply_protocol(read_options(dataset, "--protocol published"), benchmark)[0]


@pytest.mark.parametrize(
    ("dataset", "given", "words"),
    [
        ("nyuv2", "--select validation_delta_m", "expected published_last10"),
        ("nyuv2", "--set training_split=train", "expected train_and_validation"),
        ("qm9", "--set training_split=train_and_validation", "expected train or nothing"),
        ("nyuv2", "--search grid", "--search: received grid, expected published"),
    ],
)
def test_contradictions_are_refused(dataset: str, given: str, words: str) -> None:
    options = read_options(dataset, f"--protocol published {given}")
    with pytest.raises(UserError, match=words):
        apply_protocol(options, datasets.load_benchmark(dataset))


@pytest.mark.parametrize(
    ("dataset", "given", "words"),
    [
        ("nyuv2", "--search published", "the authors selected by published_last10 and trained on"),
        ("celeba40", "--search published", "the authors selected by validation_mean_f1"),
        ("nyuv2", f"--search published {LAST10}", ""),
        (
            "nyuv2",
            "--search published --select published_last10 --audit-test",
            "all frames that are not test frames; this command selects by published_last10 and",
        ),
        ("qm9", "--search published", ""),
        ("nyuv2", "--search tpe", ""),
        ("nyuv2", "--protocol published", "--protocol published: --search published --select"),
    ],
)
def test_a_plan_says_how_the_authors_selected(
    dataset: str, given: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--method", "fairgrad", "--dataset", dataset, *given.split(), "--plan"]
    none = ["--data-root", str(tmp_path / "none"), "--results", str(tmp_path / "results")]
    assert main([*command, *none]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "authors" in line or "--protocol" in line]
    assert len(lines) == bool(words)
    assert words in out
