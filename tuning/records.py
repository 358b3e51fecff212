"""Records: the only truth about a study. Each training run owns a folder named by its key.

Files of a run's folder::

    run.json             its key, and what the study uses it for
    rows.json            a row per finished round
    audit.json           test metrics per round, with --audit-test only
    last.pt, best.pt     states (torch, loaded with weights_only)
    predictions.parquet  of a confirmation seed
    model.safetensors    of a confirmation seed, with --keep-models
    end.json             its end: status, reason, all rows, test metrics

Every file is replaced as a whole, so a reader never sees half of one, and two living copies of a
run do no harm: they write the same. A finished run's rows are read from ``end.json``, which is
written once, so that a late copy cannot shorten them.
"""

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from datasets.errors import UserError

# What a state holds; one of another version of the project counts as absent.
STATE = {
    "rounds_done", "model", "optimiser", "schedule", "weighting", "repetitions", "microbatch"
}  # fmt: skip


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a new file to write, which takes ``path``'s place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    new = Path(name)
    try:
        yield new
        new.chmod(0o644)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def write_json(path: Path, data: object) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, or None where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _mapping(path: Path, keys: set[str]) -> dict[str, Any] | None:
    """Return a JSON mapping with at least these keys; None where it is absent or damaged."""
    found = read_json(path)
    return found if isinstance(found, dict) and keys <= set(found) else None


def _list(path: Path) -> list[dict[str, Any]]:
    """Return a JSON list; empty where it is absent or damaged."""
    found = read_json(path)
    return found if isinstance(found, list) else []


class RunFolder:
    """The record of one training run.

    Args:
        path: Its folder, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, description: Mapping[str, Any]) -> None:
        """Write ``run.json`` unless it is there."""
        if self.description is None:
            write_json(self.path / "run.json", description)

    @property
    def description(self) -> dict[str, Any] | None:
        """What ``run.json`` holds; None where it is absent or damaged."""
        return _mapping(self.path / "run.json", {"phase", "number", "config", "key"})

    @property
    def end(self) -> dict[str, Any] | None:
        """How the run ended; None while it has not."""
        return _mapping(self.path / "end.json", {"status", "reason", "rows"})

    def rows(self) -> list[dict[str, Any]]:
        """Return the finished rounds' rows."""
        end = self.end
        return list(end["rows"]) if end else _list(self.path / "rows.json")

    def audit(self) -> list[dict[str, Any]]:
        """Return the test metrics of each round. Only rules that are labelled so may look."""
        return _list(self.path / "audit.json")

    def write_rows(self, rows: list[dict[str, Any]], audit: list[dict[str, Any]]) -> None:
        """Write the rows, and the test metrics where there are any."""
        if audit:
            write_json(self.path / "audit.json", audit)
        write_json(self.path / "rows.json", rows)

    def write_end(self, end: Mapping[str, Any]) -> None:
        """Write how the run ended, once, and drop what nobody needs any more."""
        if self.end is None:
            write_json(self.path / "end.json", end)
        for name in ("last.pt", "best.pt", "rows.json"):
            (self.path / name).unlink(missing_ok=True)

    def write_state(self, name: str, state: Mapping[str, Any]) -> None:
        """Write the state ``last`` or ``best``."""
        with replacing(self.path / f"{name}.pt") as new:
            torch.save(dict(state), new)

    def state(self, name: str) -> dict[str, Any] | None:
        """Return the state ``last`` or ``best``; None where it is absent or damaged."""
        path = self.path / f"{name}.pt"
        try:
            with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
                if archive.testzip() is not None:
                    return None
            found: dict[str, Any] = torch.load(path, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError, zipfile.BadZipFile):
            return None
        return found if isinstance(found, dict) and set(found) >= STATE else None


class MethodRecords:
    """The records of one method on one data set.

    Args:
        path: ``<storage>/<dataset>/<method>``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def definition(self) -> dict[str, Any] | None:
        """What the study was started with; None where that is absent or damaged."""
        return _mapping(self.path / "study.json", {"dataset", "search"})

    def check_readable(self) -> None:
        """Refuse records whose definition cannot be read.

        Raises:
            UserError: If there are runs without it: they may be of another study.
        """
        if self.definition is None and self.folders():
            raise UserError(
                f"'{self.path / 'study.json'}' is missing or damaged, so nobody knows which study "
                "its runs belong to: name another folder with --results"
            )

    def define(self, definition: Mapping[str, Any]) -> None:
        """Write what the study is."""
        write_json(self.path / "study.json", definition)

    def folder(self, digest: str) -> RunFolder:
        """Return the record of the run with this key."""
        return RunFolder(self.path / "runs" / digest)

    def folders(self) -> list[RunFolder]:
        """Return all runs' records that can be read, in the order of their names."""
        runs = self.path / "runs"
        found = [RunFolder(path) for path in sorted(runs.iterdir())] if runs.is_dir() else []
        return [folder for folder in found if folder.description is not None]


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each entry in which a study's definition differs from the command."""
    return [
        f"{name}: the study has {stored.get(name)!r}, this command asks for {asked.get(name)!r}"
        for name in sorted({*stored, *asked})
        if stored.get(name) != asked.get(name)
    ]


def check_writable(option: str, folder: Path) -> None:
    """Refuse a folder in which nothing can be written, without making it.

    Raises:
        UserError: If a file cannot be made in it or in its nearest existing parent.
    """
    place = Path(os.path.abspath(folder))
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{option}: cannot write in '{folder}': {place}: {reason}") from None
