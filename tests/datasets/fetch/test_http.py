"""Downloads from a server on loopback."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import UserError
from datasets.fetch import http as downloads
from datasets.fetch.http import download_file
from tests.support.loopback import Server, serving

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "RETRY_PAUSE_SECONDS", 0.01)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file.bin").write_bytes(CONTENT)
    with serving(tmp_path / "www") as found:
        yield found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "here" / "file.bin"


def alone(path: Path) -> bool:
    return [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_is_fetched_once(server: Server, path: Path) -> None:
    checksum = hashlib.sha256(CONTENT).hexdigest()
    for _ in range(2):
        download_file(f"{server.address}/file.bin", path, checksum)
    assert path.read_bytes() == CONTENT
    assert alone(path)
    assert server.asked == [("/file.bin", "")]


def test_a_git_blob_is_a_checksum(server: Server, path: Path) -> None:
    # git hash-object of the same bytes
    blob = hashlib.sha1(b"blob 1024000\0" + CONTENT, usedforsecurity=False).hexdigest()
    for prefix in (blob[:12], blob):
        download_file(f"{server.address}/file.bin", path, git_blob=prefix)
    assert len(server.asked) == 1
    with pytest.raises(UserError, match=f"received git blob {blob}, expected 0000000"):
        download_file(f"{server.address}/file.bin", path, git_blob="0000000")
    assert not path.exists()


def test_a_broken_download_goes_on_where_it_broke(server: Server, path: Path) -> None:
    server.break_after = 300_000
    download_file(f"{server.address}/file.bin", path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [("/file.bin", ""), ("/file.bin", "bytes=300000-")]
    assert alone(path)


def test_a_later_call_goes_on_too(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAX_ATTEMPTS", 1)
    server.break_after = 300_000
    with pytest.raises(UserError, match=r"the connection broke 1 times.*300,000 bytes are kept"):
        download_file(f"{server.address}/file.bin", path)
    assert not path.exists()
    download_file(f"{server.address}/file.bin", path)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == ("/file.bin", "bytes=300000-")


def test_a_server_that_cannot_resume_starts_anew(server: Server, path: Path) -> None:
    server.ranges = False
    server.break_after = 300_000
    download_file(f"{server.address}/file.bin", path)
    assert path.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    server: Server, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAX_ATTEMPTS", 1)
    server.break_after = 300_000
    with pytest.raises(UserError):
        download_file(f"{server.address}/file.bin", path)
    (tmp_path / "www" / "file.bin").write_bytes(CONTENT[::-1])
    download_file(f"{server.address}/file.bin", path)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_part_that_is_all_there_is_taken(server: Server, path: Path) -> None:
    server.break_after = 300_000
    download_file(f"{server.address}/file.bin", path)
    # As a process leaves it that is killed between the last byte and the renaming.
    path.rename(path.with_name("file.bin.part"))
    path.with_name("file.bin.part.json").write_text(
        f'{{"url": "{server.address}/file.bin", "tag": ""}}'
    )
    download_file(f"{server.address}/file.bin", path)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == ("/file.bin", f"bytes={len(CONTENT)}-")


def test_a_wrong_checksum_is_refused_and_thrown_away(server: Server, path: Path) -> None:
    with pytest.raises(UserError, match=r"wrong checksum: received SHA-256 [0-9a-f]{64}, expected"):
        download_file(f"{server.address}/file.bin", path, "0" * 64)
    assert list(path.parent.iterdir()) == []


def test_a_web_page_in_place_of_data_is_refused(server: Server, path: Path, tmp_path: Path) -> None:
    (tmp_path / "www" / "file.bin").write_text("<html>Please sign in</html>")
    with pytest.raises(UserError, match=r"a web page was received.*put it at .*here/file.bin$"):
        download_file(f"{server.address}/file.bin", path)


@pytest.mark.parametrize(("end", "reason"), [("nowhere.bin", "answers 404"), ("", "answers 404")])
def test_what_the_server_lacks(server: Server, path: Path, end: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        download_file(f"{server.address}/{end}", path)


def test_no_server_and_no_address(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "RETRY_PAUSE_SECONDS", 0.01)
    with serving(path.parent) as server:
        pass
    with pytest.raises(UserError, match="the connection broke 5 times"):
        download_file(f"{server.address}/file.bin", path)
    with pytest.raises(UserError, match="begins with http"):
        download_file("gopher://example.org/file.bin", path)
