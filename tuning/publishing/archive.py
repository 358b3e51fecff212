"""Archives with which another person verifies a row: records, model, predictions, hashes."""

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from common.errors import UserError
from common.files import atomic_write, hash_file
from core.kept_model import load_kept_run, read_kept_key
from datasets.fetch.archives import ArchiveLimits, extract_archive
from tuning.publishing.archive_checks import (
    CONFIG,
    SEEDS,
    TOLERANCE,
    ArchiveCheck,
    Winner,
    check_data,
    check_parts,
    check_predictions,
    check_row,
    is_close,
    is_number,
    list_values,
    name_predictions,
    read_seeds,
)
from tuning.records.decoding import decode_fields, require_object
from tuning.records.run_data import Metrics
from tuning.reporting.summary import FILE_NAME as SUMMARY
from tuning.reporting.summary import read_summary

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
VERSION = 1
LIMITS = ArchiveLimits(members=1000, size=50 * 10**9, ratio=100.0)


@dataclass(frozen=True)
class ArchiveManifest:
    """The content of ``manifest.json``.

    Args:
        version: The version of this form.
        dataset: The data set.
        method: The method.
        seed: The confirmation seed whose model the archive has.
        data_hash: Hash of the data set's files.
        metrics: The metrics of that model on the test split, as its publisher measured them.
        files: The SHA-256 of every other file.
    """

    version: int
    dataset: str
    method: str
    seed: int
    data_hash: str
    metrics: Metrics
    files: Mapping[str, str]

    @property
    def is_well_typed(self) -> bool:
        """Whether metrics are numbers, the seed is an integer, and names are texts."""
        values = [value for found in self.metrics.values() for value in list_values(found)]
        return (
            isinstance(self.seed, int)
            and all(isinstance(n, str) for n in (self.dataset, self.method, self.data_hash))
            and all(value is None or is_number(value) for value in values)
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the manifest of an extracted archive.

        Raises:
            UserError: If it is missing, malformed, or of another version.
        """
        try:
            data = require_object(json.loads(path.read_text(encoding="utf-8")))
            found = decode_fields(cls, data, metrics=require_object, files=require_object)
            if not found.is_well_typed:
                raise TypeError("a value of another type")
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UserError(f"{path}: no archive of python tune.py publish ({reason})") from None
        if found.version != VERSION:
            raise UserError(f"{path}: version {found.version}, expected {VERSION}")
        return found


def write_archive(path: Path, manifest: ArchiveManifest, files: Mapping[str, Path]) -> None:
    """Write an archive, with the hashes of its files in the manifest.

    Args:
        path: The ``.zip`` file.
        manifest: The manifest, whose hashes are replaced.
        files: The files, by their names in the archive.
    """
    hashes = {name: hash_file(file) for name, file in files.items()}
    content = {**asdict(manifest), "files": hashes}
    with atomic_write(path) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(content, indent=1) + "\n")
        for name, file in files.items():
            archive.write(file, name)


def verify_archive(
    archive: Path, folder: Path, data_root: Path, tolerance: float = TOLERANCE
) -> list[ArchiveCheck]:
    """Check an archive: its hashes, its row, and the metrics of its model on the test split.

    Args:
        archive: The archive.
        folder: An empty folder for its files.
        data_root: The folder of all data sets.
        tolerance: The largest difference of a metric of the model, relative where above 1.

    Raises:
        UserError: If it is damaged, was not written by ``publish``, or its data are not here.
    """
    extract_archive(archive, folder, LIMITS)
    try:
        return _verify_files(folder, data_root, tolerance)
    except UserError as error:  # names the user's file, not the temporary one
        raise UserError(str(error).replace(f"{folder}{os.sep}", f"{archive}: ")) from None


def _verify_files(folder: Path, data_root: Path, tolerance: float) -> list[ArchiveCheck]:
    manifest = ArchiveManifest.read(folder / MANIFEST)
    checks = [_check_hashes(folder, manifest)]
    if checks[0].problem:
        return checks
    summary = read_summary(folder)
    if summary is None:
        raise UserError(f"{folder / SUMMARY}: missing or unreadable")
    winner, table = Winner.read(folder / CONFIG), read_seeds(folder / SEEDS)
    key = read_kept_key(folder / MODEL)
    names = manifest.method, manifest.dataset, manifest.seed
    try:
        checks.append(check_parts(names, summary, winner, key, table))
        checks.append(check_row(table, summary, manifest.seed, manifest.metrics))
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{folder / SUMMARY} or {CONFIG}: malformed ({error})") from None
    run = load_kept_run(folder / MODEL, data_root)
    checks.append(check_data(manifest.dataset, run.benchmark.data_hash, manifest.data_hash))
    test = run.evaluate_split("test")
    checks.append(_check_metrics(test.compute_metrics(), manifest.metrics, tolerance))
    predictions = folder / name_predictions(manifest.seed)
    if predictions.is_file():
        checks.append(check_predictions(predictions, test.collect_predictions(), tolerance))
    return checks


def _check_hashes(folder: Path, manifest: ArchiveManifest) -> ArchiveCheck:
    found = {
        str(PurePosixPath(path.relative_to(folder))): hash_file(path)
        for path in folder.rglob("*")
        if path.is_file() and path != folder / MANIFEST
    }
    names = sorted({*found, *manifest.files})
    wrong = [name for name in names if found.get(name) != manifest.files.get(name)]
    return ArchiveCheck(
        f"hashes of {len(names)} files", f"differ: {', '.join(wrong)}" if wrong else ""
    )


def _check_metrics(measured: Metrics, expected: Metrics, tolerance: float) -> ArchiveCheck:
    wrong = []
    for metric in sorted({*measured, *expected}):
        one, other = list_values(measured.get(metric)), list_values(expected.get(metric))
        same = len(one) == len(other) and all(
            is_close(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
        if not same:
            wrong.append(f"{metric}: {measured.get(metric)} here, {expected.get(metric)} published")
    name = f"the model's {len(expected)} metrics on the test split, within {tolerance:g}"
    return ArchiveCheck(name, "; ".join(wrong))
