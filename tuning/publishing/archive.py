"""Archives with which another person verifies a row: records, model, predictions, hashes."""

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Self

import numpy as np
import pandas as pd

from common.errors import UserError
from common.files import atomic_write, hash_file
from core.kept_model import load_kept_run
from datasets.fetch.archives import ArchiveLimits, extract_archive
from tuning.records.decoding import decode_fields, require_object
from tuning.records.run_data import Metrics
from tuning.reporting.summary import Summary, read_summary

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
SEEDS = "seeds.csv"
VERSION = 1
LIMITS = ArchiveLimits(members=1000, size=50 * 10**9, ratio=100.0)
SAME = 1e-9  # of numbers that are computed again from the same ones
TOLERANCE = 1e-3  # of metrics of the model: another machine rounds otherwise


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

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the manifest of an extracted archive.

        Raises:
            UserError: If it is missing, malformed, or of another version.
        """
        try:
            data = require_object(json.loads(path.read_text(encoding="utf-8")))
            found = decode_fields(cls, data, metrics=require_object, files=require_object)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path.name}: no archive of python tune.py publish ({error})"
            ) from None
        if found.version != VERSION:
            raise UserError(f"{path.name}: version {found.version}, expected {VERSION}")
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


@dataclass(frozen=True)
class ArchiveCheck:
    """A check of an archive.

    Args:
        name: What was checked.
        problem: What is wrong; empty if nothing is.
    """

    name: str
    problem: str = ""


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
    manifest = ArchiveManifest.read(folder / MANIFEST)
    checks = [_check_hashes(folder, manifest)]
    if checks[0].problem:
        return checks
    summary = read_summary(folder)
    if summary is None:
        raise UserError(f"{archive}: no readable summary.json")
    checks.append(_check_row(folder / SEEDS, summary, manifest))
    run = load_kept_run(folder / MODEL, data_root)
    found = run.benchmark.data_hash
    same = found == manifest.data_hash
    problem = "" if same else f"hash {found} here, {manifest.data_hash} in the archive"
    checks.append(ArchiveCheck(f"the data of {manifest.dataset} are those of the archive", problem))
    measured = run.evaluate_split("test").compute_metrics()
    checks.append(_check_metrics(measured, manifest.metrics, tolerance))
    return checks


def _check_hashes(folder: Path, manifest: ArchiveManifest) -> ArchiveCheck:
    found = {
        str(PurePosixPath(path.relative_to(folder))): hash_file(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    names = sorted({*found, *manifest.files})
    wrong = [name for name in names if found.get(name) != manifest.files.get(name)]
    return ArchiveCheck(
        f"hashes of {len(names)} files", f"differ: {', '.join(wrong)}" if wrong else ""
    )


def _check_row(path: Path, summary: Summary, manifest: ArchiveManifest) -> ArchiveCheck:
    """Compute the row's means and deviations from the seeds again."""
    table = pd.read_csv(path)
    name = f"means and deviations of {len(table)} seeds"
    wrong = []
    for column, statistics in summary.metrics.items():
        if column not in table:
            wrong.append(column)
            continue
        values = table[column].dropna().to_numpy(dtype=float)
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        if not (_is_close(float(values.mean()), statistics.mean, SAME)
                and _is_close(std, statistics.std, SAME)):  # fmt: skip
            wrong.append(column)
    own = table[table.seed == manifest.seed]
    for metric, value in manifest.metrics.items():
        column = f"test_{metric}"
        if column in own and not isinstance(value, Sequence) and len(own) == 1:
            recorded = own[column].iloc[0]
            if not _is_close(None if pd.isna(recorded) else float(recorded), value, TOLERANCE):
                wrong.append(f"{column} of seed {manifest.seed}")
    return ArchiveCheck(name, f"differ: {', '.join(wrong)}" if wrong else "")


def _check_metrics(measured: Metrics, expected: Metrics, tolerance: float) -> ArchiveCheck:
    wrong = []
    for metric in sorted({*measured, *expected}):
        one, other = _list_values(measured.get(metric)), _list_values(expected.get(metric))
        same = len(one) == len(other) and all(
            _is_close(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
        if not same:
            wrong.append(f"{metric}: {measured.get(metric)} here, {expected.get(metric)} published")
    name = f"the model's {len(expected)} metrics on the test split, within {tolerance:g}"
    return ArchiveCheck(name, "; ".join(wrong))


def _list_values(value: float | list[float | None] | None) -> list[float | None]:
    return value if isinstance(value, list) else [value]


def _is_close(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
