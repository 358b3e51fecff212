"""Files: whole or not at all, held by one process, and named by content."""

import errno
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.files import (
    atomic_write,
    find_existing_parent,
    hash_file,
    hash_text,
    lock_file,
    read_text,
    try_lock_file,
    wrap_os_errors,
    write_text,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff")))
def test_written_text_is_read_and_hashed(text: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_text(path, text)
    assert read_text(path) == text
    assert hash_file(path) == hashlib.sha256(text.encode()).hexdigest()
    assert hash_text(text, 20) == hash_file(path)[:20]
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_lock_is_held_by_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ".lock"
    hold = (
        "import sys, time; from pathlib import Path; from common.files import lock_file\n"
        "with lock_file(Path(sys.argv[1])): print('held', flush=True); time.sleep(2)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with try_lock_file(path) as is_free:
            assert not is_free
        with lock_file(path, "in use"), try_lock_file(tmp_path / "other") as is_free:
            assert is_free
            assert holder.wait(timeout=60) == 0
    assert capsys.readouterr().err == f"in use; waiting for it ({path})\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, "missing"), (b"a\nb\xff", "line 2: not UTF-8 (byte 0xff)")],
)
def test_an_unreadable_text_is_one_line(data: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_text(path)
    assert str(caught.value) == f"{path}: {words}"


def test_the_nearest_existing_parent_is_found(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert find_existing_parent(tmp_path / "a" / "b") == tmp_path
    assert find_existing_parent(tmp_path) == tmp_path
    assert find_existing_parent(link / "c") == tmp_path
    assert find_existing_parent(link / "c", follow_links=False) == link


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written"), (errno.EIO, None)],
)
def test_errors_of_the_disk_are_one_line(number: int, words: str | None, tmp_path: Path) -> None:
    with (
        pytest.raises(UserError if words else OSError) as caught,
        wrap_os_errors(tmp_path, "choose another"),
    ):
        raise OSError(number, "failed", str(tmp_path / "file"))
    if words:
        text = str(caught.value)
        assert text.startswith(f"{tmp_path}: {words}")
        fix = "free some space" if number == errno.ENOSPC else "make it writable"
        assert text.endswith(f"; {fix}, or choose another")


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"source.npy: cannot be read \(denied\)"),
        wrap_os_errors(tmp_path / "cache"),
    ):
        raise OSError(errno.EACCES, "denied", str(tmp_path / "data/source.npy"))
