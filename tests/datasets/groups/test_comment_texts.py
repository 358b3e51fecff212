"""The texts of CivilComments stay beside their labels."""

from pathlib import Path

import pytest

import datasets
from datasets import prepare
from datasets.groups.comment_table import CommentBenchmark
from tests.support.comment_files import CONTROLS, write_original


def load(name: str, root: Path) -> CommentBenchmark:
    found = datasets.load_benchmark.__wrapped__(name, root)
    assert isinstance(found, CommentBenchmark)
    return found


def read_labeled_texts(benchmark: CommentBenchmark) -> list[tuple[str, int]]:
    return list(zip(benchmark.load_texts().first, benchmark.table["y"].tolist(), strict=True))


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("name", ["civilcomments", "civilcomments_fine"])
def test_text_i_is_comment_i(tmp_path: Path, name: str, quoted: bool) -> None:
    comments = write_original(tmp_path, quoted)
    options = ["--data-root", str(tmp_path), "--no-cache"]
    assert prepare.main([name, *options]) == 0
    made = read_labeled_texts(load(name, tmp_path))
    assert {text for text, _ in made} <= set(comments["comment_text"])
    assert len({text for text, _ in made}) > 6 * len(CONTROLS)
    assert all(text.endswith(f"says {y}") for text, y in made)
    assert prepare.main([name, *options, "--check"]) == 0


@pytest.mark.parametrize("source", ["made", "given"])
@pytest.mark.parametrize("change", ["fewer", "more"])
def test_texts_of_another_number_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, change: str
) -> None:
    write_original(tmp_path)
    options = ["--data-root", str(tmp_path), "--no-cache"]
    assert prepare.main(["civilcomments", *options]) == 0
    folder, stem, name = tmp_path / "civilcomments", "civilcomments_coarse", "civilcomments"
    if source == "given":
        given = tmp_path / "civilcomments_small"
        given.mkdir()
        for prefix in ("", "metadata_"):
            new = f"{prefix}civilcomments_small_coarse.csv"
            (folder / f"{prefix}{stem}.csv").rename(given / new)
        folder, stem, name = given, "civilcomments_small_coarse", "civilcomments_small"
        assert prepare.main([name, *options]) == 0
    texts = folder / f"{stem}.csv"
    content = texts.read_bytes()
    fewer = content[: content.rindex(b'"text ')]
    texts.write_bytes(content + b"one more\n" if change == "more" else fewer)
    capsys.readouterr()
    for check in ([], ["--check"]):
        assert prepare.main([name, *options, *check]) == 1
        error = capsys.readouterr().err
        assert f"{texts}: " in error
        assert f"texts, but metadata_{stem}.csv has " in error
