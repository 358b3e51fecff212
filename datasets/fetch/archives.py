"""Safe extraction of archives: nothing outside the folder, nothing beyond the limits."""

import errno
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from common.errors import UserError
from common.progress import ProgressBar

CHUNK_BYTES = 1 << 20
DAMAGE_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeError,
)
SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits for the content of an archive.

    Args:
        members: Number of files and folders.
        size: Bytes of all files together.
        ratio: Bytes of all files together per byte of the archive.
        free: Bytes up to which the ratio is not limited.
    """

    members: int = 2_000_000
    size: int = 200 * 10**9
    ratio: float = 200.0
    free: int = 100 * 10**6


@dataclass(frozen=True)
class _Member:
    name: str
    folder: bool
    open: Callable[[], IO[bytes] | None]


def is_archive(path: Path) -> bool:
    """Return whether a file's name is that of an archive."""
    return path.name.lower().endswith(SUFFIXES)


def extract_archive(
    archive: Path, target: Path, limits: ArchiveLimits | None = None, wrapping: Sequence[str] = ()
) -> None:
    """Extract an archive into a folder: all of it, or nothing.

    Files are written into a temporary folder beside ``target`` first and moved at the end.

    Args:
        archive: A ``.tar.gz``, ``.tgz``, ``.tar`` or ``.zip`` file.
        target: The folder; its other files stay.
        limits: The limits of its content.
        wrapping: Names of folders: if one of them is all that the archive holds, its content is
            extracted in its place.

    Raises:
        UserError: If a member would lie outside the folder, is a link or a device, or the archive
            is damaged or beyond the limits.
    """
    limits = limits or ArchiveLimits()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{os.getpid()}.extracting"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with archive.open("rb") as file:
            _extract_members(archive, file, temporary, limits)
        entries = list(temporary.iterdir())
        wrapped = len(entries) == 1 and entries[0].name in wrapping and entries[0].is_dir()
        merge_folders(entries[0] if wrapped else temporary, target)
    except DAMAGE_ERRORS as error:
        raise UserError(f"{archive}: damaged archive ({error})") from None
    except OSError as error:
        # gzip's own errors carry no number; the others come of names that cannot all be files.
        if error.errno in (None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
            raise UserError(f"{archive}: damaged archive ({error})") from None
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def merge_folders(source: Path, target: Path) -> None:
    """Move all files of a folder into another one on the same disk, and replace existing files."""
    if not target.exists():
        source.rename(target)
        return
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            merge_folders(path, place)
        else:
            path.replace(place)


def _extract_members(archive: Path, file: IO[bytes], folder: Path, limits: ArchiveLimits) -> None:
    packed = os.fstat(file.fileno()).st_size
    most = min(limits.size, max(limits.free, int(limits.ratio * packed)))
    names: set[str] = set()
    size = 0
    with ProgressBar(f"extracting {archive.name}", None, in_bytes=True) as bar:
        for number, member in enumerate(_iterate_members(archive, file), start=1):
            if number > limits.members:
                raise UserError(f"{archive}: more than {limits.members:,} members; refused")
            path = _check_path(archive, member.name)
            if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
                continue  # as macOS adds them; nothing of a data set
            place = folder / path
            if member.folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            if member.name in names or place == folder:
                raise UserError(
                    f"{archive}: member '{member.name}' is listed twice, or has no name"
                )
            names.add(member.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            part = member.open()
            if part is None:
                raise UserError(f"{archive}: member '{member.name}' has no content")
            with part, place.open("xb") as out:
                # The bytes that come out are counted: an archive may state wrong sizes.
                while piece := part.read(CHUNK_BYTES):
                    size += len(piece)
                    if size > most:
                        raise UserError(
                            f"{archive}: unpacks to more than {most:,} bytes from {packed:,}; "
                            "refused as an archive bomb"
                        )
                    out.write(piece)
                    bar.advance(len(piece))


def _check_path(archive: Path, name: str) -> PurePosixPath:
    """Return a member's path, unless it leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or drive or "\0" in name:
        raise UserError(f"{archive}: member '{name}' would lie outside the folder; refused")
    return path


def _iterate_members(archive: Path, file: IO[bytes]) -> Iterator[_Member]:
    if zipfile.is_zipfile(file):
        yield from _iterate_zip(archive, file)
        return
    file.seek(0)
    try:
        opened = tarfile.open(fileobj=file, mode="r:*")  # noqa: SIM115
    except tarfile.ReadError:
        raise UserError(f"{archive}: neither a tar nor a zip archive, or damaged") from None
    with opened as tar:
        for member in tar:
            if not (member.isfile() or member.isdir()):
                kind = "link" if member.issym() or member.islnk() else "device or special file"
                raise UserError(f"{archive}: member '{member.name}' is a {kind}; refused")
            yield _Member(member.name, member.isdir(), partial(tar.extractfile, member))


def _iterate_zip(archive: Path, file: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as opened:
        for member in opened.infolist():
            if not member.filename:
                raise UserError(f"{archive}: damaged archive (a member without a name)")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "link" if kind == stat.S_IFLNK else "device or special file"
                raise UserError(f"{archive}: member '{member.filename}' is a {what}; refused")
            if member.flag_bits & 1:
                raise UserError(f"{archive}: member '{member.filename}' is encrypted; refused")
            # zipfile itself would cut a name at a null byte; this is the name as written.
            name = member.orig_filename
            yield _Member(name, member.is_dir(), partial(opened.open, member))
