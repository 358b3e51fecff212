"""Downloads that resume after an interruption, with sizes and checksums verified."""

import errno
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import UserError
from common.files import DISK_FULL_ERRNOS, hash_file, hash_git_blob, write_text
from common.progress import ProgressBar

CHUNK_BYTES = 1 << 18
MAX_ATTEMPTS = 5
RETRY_PAUSE_SECONDS = 1.0  # before the second attempt, doubled for each further one
TIMEOUT_SECONDS = 60.0  # without a byte, after which a connection counts as broken


@dataclass(frozen=True)
class _PartMetadata:
    """The address of a partial file, and the server's version tag of the whole file."""

    url: str
    tag: str


class _ConnectionBroken(Exception):
    """The connection ended before the file was complete."""


def download_file(
    url: str, path: Path, sha256: str | None = None, git_blob: str | None = None
) -> None:
    """Download a file, unless it exists with the right checksum.

    An incomplete file is kept as ``<path>.part``, and a later call resumes from there if the server
    supports it and its file is still the same.

    Args:
        url: ``http``, ``https`` or ``file``.
        path: The path of the file.
        sha256: Its checksum, hexadecimal; None where it is not known.
        git_blob: The id by which git stores it, or the first digits; None where it is not known.

    Raises:
        UserError: If the server refuses, the connection keeps breaking, a web page is received in
            place of data, or the checksum is wrong.
    """
    if path.is_file():
        if _find_wrong_checksum(path, sha256, git_blob) is None:
            return
        path.unlink()
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    _fetch_with_retries(url, part)
    wrong = _find_wrong_checksum(part, sha256, git_blob)
    if wrong is not None:
        _discard_part(part)
        raise UserError(f"{url}: wrong checksum: {wrong}; the file was deleted")
    part.replace(path)
    _discard_part(part)


def _find_wrong_checksum(path: Path, sha256: str | None, git_blob: str | None) -> str | None:
    """Return the checksum received and the one expected, or None where they agree."""
    if sha256 is not None and (found := hash_file(path)) != sha256:
        return f"received SHA-256 {found}, expected {sha256}"
    if git_blob is not None and not (found := hash_git_blob(path)).startswith(git_blob):
        return f"received git blob {found}, expected {git_blob}"
    return None


def _fetch_with_retries(url: str, part: Path) -> None:
    for attempt in range(MAX_ATTEMPTS):
        try:
            _request_rest(url, part)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what is there is as long as the file, or longer
                if _is_complete(part, error.headers.get("Content-Range")):
                    return
                _discard_part(part)
            elif error.code < 500 and error.code not in (408, 429):
                raise UserError(f"{url}: the server answers {error.code} {error.reason}") from None
            reason = f"{error.code} {error.reason}"
        except (
            _ConnectionBroken,
            urllib.error.URLError,
            http.client.HTTPException,
            OSError,
        ) as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
                _discard_part(part)
                raise
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS):
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt + 1 < MAX_ATTEMPTS:
            time.sleep(RETRY_PAUSE_SECONDS * 2**attempt)
    kept = part.stat().st_size if part.exists() else 0
    raise UserError(
        f"{url}: the connection broke {MAX_ATTEMPTS} times ({reason}); {kept:,} bytes are kept: "
        "the same command resumes from there"
    )


def _request_rest(url: str, part: Path) -> None:
    """Request the missing part of a file and append it."""
    done = part.stat().st_size if part.exists() else 0
    tag = _read_etag(part, url)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if done and tag is not None:
        request.add_header("Range", f"bytes={done}-")
        if tag:
            request.add_header("If-Range", tag)
    with _make_opener(url).open(request, timeout=TIMEOUT_SECONDS) as answer:
        resumed = answer.status == 206 and _is_continuation(
            answer.headers.get("Content-Range"), done
        )
        if answer.status == 206 and not resumed:
            _discard_part(part)
            raise _ConnectionBroken("the server sent another part than asked for")
        if answer.headers.get_content_type() == "text/html" and ".html" not in part.name:
            raise UserError(
                f"{url}: a web page was received, expected the file; fetch it with a browser and "
                f"put it at {part.with_suffix('')}"
            )
        start = done if resumed else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        metadata = _PartMetadata(url, tag)
        write_text(_metadata_path(part), json.dumps(asdict(metadata)) + "\n")
        with (
            part.open("ab" if resumed else "wb") as out,
            ProgressBar(f"fetching {part.stem}", total, start, in_bytes=True) as bar,
        ):
            while piece := answer.read(CHUNK_BYTES):
                out.write(piece)
                bar.advance(len(piece))
    size = part.stat().st_size
    if total is not None and size != total:
        raise _ConnectionBroken(f"{size:,} of {total:,} bytes came")


def _is_continuation(content_range: str | None, start: int) -> bool:
    """Return whether an answer's range starts where the partial file ends."""
    return bool(content_range) and str(content_range).startswith(f"bytes {start}-")


def _is_complete(part: Path, content_range: str | None) -> bool:
    """Return whether a partial file has the length that the server states."""
    return bool(content_range) and str(content_range).endswith(f"/{part.stat().st_size}")


def _make_opener(url: str) -> urllib.request.OpenerDirector:
    """Return an opener for an address, without a proxy for this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https", "file"):
        raise UserError(f"{url}: expected an address that begins with http, https or file")
    if parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _metadata_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_etag(part: Path, url: str) -> str | None:
    """Return the server's version tag of a partial file; None if it is of another address."""
    try:
        found = _PartMetadata(**json.loads(_metadata_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found.tag if found.url == url else None


def _discard_part(part: Path) -> None:
    for path in (part, _metadata_path(part)):
        with suppress(FileNotFoundError):
            path.unlink()
