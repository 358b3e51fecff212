"""``civilcomments_small`` from its published files, with a server on loopback."""

from pathlib import Path

import pytest
import yaml

import datasets
from common.files import hash_git_blob
from datasets.fetch.sources import read_sources
from datasets.formats.civilcomments import expand_comments
from datasets.on_disk import OnDisk
from tests.datasets.test_prepare import run
from tests.support import real_data
from tests.support.loopback import Server

SMALL_FILES = {
    "metadata_civilcomments_small_coarse.csv": "310bca6baefa",
    "metadata_civilcomments_small_fine.csv": "ace94e799a8b",
    "civilcomments_small_coarse.csv": "99289dfb6691",
    "civilcomments_small_fine.csv": "55d623be9708",
    "all_data_with_identities_small.csv": "fea0c13a3ae1",
}


@pytest.mark.real_data
def test_the_published_files_of_civilcomments_small_have_addresses_and_checksums() -> None:
    sources = {source.file: source for source in read_sources()["civilcomments_small"]}
    assert {name: str(source.git_blob)[:12] for name, source in sources.items()} == SMALL_FILES
    for name, source in sources.items():
        assert source.url.startswith("https://raw.githubusercontent.com/athrvkk/")
        assert source.url.endswith(f"/data/civilcomments_small/{name}")
        if name.startswith("metadata"):
            assert hash_git_blob(real_data.piece("civilcomments_small", name)) == source.git_blob


@pytest.mark.medium
@pytest.mark.real_data
def test_civilcomments_small_from_a_server(
    tmp_path: Path, www: tuple[Path, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, server = www
    names = ("civilcomments_small", "civilcomments_small_fine")
    # The published files are the product of the tables' own code; so are these, of fewer comments.
    original = folder / "all_data_with_identities_small.csv"
    comments = real_data.comments().iloc[2::3].reset_index(drop=True)
    comments.to_csv(original)
    for grouping in ("coarse", "fine"):
        rows = expand_comments(original, grouping)
        table = rows[["id", "filename", "split", "y", "a"]]
        table.to_csv(folder / f"metadata_civilcomments_small_{grouping}.csv", index=False)
        rows[["comment_text"]].to_csv(folder / f"civilcomments_small_{grouping}.csv", index=False)
    entries = [
        {"url": f"{server.address}/{name}", "file": name,
         "git_blob": hash_git_blob(folder / name)[:12]}
        for name in SMALL_FILES
    ]  # fmt: skip
    sources = tmp_path / "sources.yaml"
    sources.write_text(yaml.safe_dump({"civilcomments_small": entries}))
    root = tmp_path / "data"
    real_data.vocabulary(root)
    code, _, err = run(capsys, names[0], "--data-root", root)
    assert code == 1
    assert f"run: python -m datasets.prepare civilcomments_small --data-root {root}" in err
    arguments = ("--data-root", root, "--download", "--sources", sources)
    code, out, err = run(capsys, *names, *arguments)
    assert code == 0, err
    assert [f"{name}: complete" in out for name in names] == [True, True]

    def hash_data(name: str) -> str:
        made = datasets.load_benchmark.__wrapped__(name, root)
        assert isinstance(made, OnDisk)
        return made.data_hash

    # The same data come of the comments through the metadata, or of the comments alone.
    before = [hash_data(name) for name in names]
    for gone in ("[c]*.csv", "[cm]*.csv"):
        for path in (root / "civilcomments_small").glob(gone):
            path.unlink()
        code, _, err = run(capsys, *names, "--data-root", root)
        assert code == 0, err
        assert [hash_data(name) for name in names] == before

    (root / "civilcomments_small" / "civilcomments_small_fine.csv").unlink()
    comments.iloc[40:].to_csv(root / "civilcomments_small" / original.name)
    code, _, err = run(capsys, names[1], "--data-root", root)
    assert code == 2
    assert "are not those of all_data_with_identities_small.csv" in err
    entries[2]["git_blob"] = "99289dfb6691"
    sources.write_text(yaml.safe_dump({"civilcomments_small": entries}))
    two = ("--data-root", tmp_path / "two", "--download", "--sources", sources)
    code, _, err = run(capsys, names[0], *two)
    assert code == 2
    assert "wrong checksum: received git blob" in err
