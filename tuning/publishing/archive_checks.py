"""Checks of a row that ``publish`` runs before it writes, and ``verify`` after."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from torch import Tensor

from common.errors import UserError
from common.hyperparameters import Hyperparameters
from common.yaml_files import read_yaml_file
from core.recipe.trial_key import TrialKey
from tuning.records.run_data import Metrics
from tuning.reporting.intervals import MIN_SEEDS, SHARE, UNBOUNDED, compute_statistics
from tuning.reporting.summary import Summary

SEEDS = "seeds.csv"
CONFIG = "best_config.yaml"
SAME = 1e-9  # of numbers that are computed again from the same ones
TOLERANCE = 1e-3  # of metrics of the model: another machine rounds otherwise
WINNER_ENTRIES = (
    "method", "dataset", "hyperparameters", "command", "command_of_one_seed", "recipe",
)  # fmt: skip


@dataclass(frozen=True)
class ArchiveCheck:
    """A check of an archive.

    Args:
        name: What was checked.
        problem: What is wrong; empty if nothing is.
    """

    name: str
    problem: str = ""


@dataclass(frozen=True)
class Winner:
    """Entries of ``best_config.yaml``.

    Args:
        method: The method.
        dataset: The data set.
        hyperparameters: The winning hyperparameters.
        command: The command that repeats the study.
        command_of_one_seed: The command that repeats the training of a seed.
        recipe: The recipe.
        data_hash: Hash of the data set's files, as the study found them; None where unknown.
    """

    method: str
    dataset: str
    hyperparameters: Hyperparameters
    command: str
    command_of_one_seed: str
    recipe: Mapping[str, object]
    data_hash: str | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the entries of a file.

        Raises:
            UserError: If it is missing, no YAML, or lacks an entry.
        """
        data = read_yaml_file(path)
        missing = [
            name for name in WINNER_ENTRIES if not isinstance(data, dict) or name not in data
        ]
        if missing:
            raise UserError(
                f"{path}: has no entry '{missing[0]}'; expected the file as the study wrote it"
            )
        provenance = data.get("provenance")
        found = provenance.get("data_hash") if isinstance(provenance, dict) else None
        return cls(**{name: data[name] for name in WINNER_ENTRIES}, data_hash=found)


def read_seeds(path: Path) -> pd.DataFrame:
    """Return the table of confirmation seeds.

    Raises:
        UserError: If it is missing, no table, or has no column of seeds.
    """
    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: no table ({str(error).splitlines()[0]})") from None
    for required in ("seed", "key"):
        if required not in table:
            raise UserError(f"{path}: no column '{required}'; expected the table of a study")
    for column in table:
        if is_metric(str(column)) and not pd.api.types.is_numeric_dtype(table[column]):
            raise UserError(f"{path}: column '{column}': expected numbers")
    return table


def is_metric(column: str) -> bool:
    """Return whether a column has a metric, not the name of the worst group."""
    return column.startswith(("test_", "validation_")) and not column.endswith("_worst_group")


def name_predictions(seed: int) -> str:
    """Return the name of a seed's file of predictions."""
    return f"predictions/seed_{seed}.parquet"


def check_data(dataset: str, found: str, expected: str | None) -> ArchiveCheck:
    """Check the hash of the data on this machine."""
    problem = "" if found == expected else f"hash {found} here, {expected} recorded"
    return ArchiveCheck(f"the data of {dataset} are those of the study", problem)


def check_parts(
    names: tuple[str, str, int],
    summary: Summary,
    winner: Winner,
    key: TrialKey,
    table: pd.DataFrame,
) -> ArchiveCheck:
    """Check that all files are of the same method, data set, hyperparameters and seed.

    Args:
        names: The method, the data set and the seed of the model.
        summary: The summary.
        winner: The winner.
        key: The key in the model's file.
        table: The table of seeds.
    """
    method, dataset, seed = names
    own = table.loc[table.seed == seed, "key"].tolist()
    config = key.training_config.as_dict()
    given = summary.hyperparameters
    differing = {n for n, value in given.items() if n in config and config[n] != value}
    confirmed = table.filter(regex="^test_").notna().any(axis=1).sum()
    pairs: dict[str, set[object]] = {
        "method": {method, summary.method, winner.method},
        "data set": {dataset, summary.dataset, winner.dataset, key.dataset},
        "seed": {seed, key.seed},
        "key": {key.digest, *(own or ["none"])},
        "number of seeds": {summary.seeds, int(confirmed)},
    }
    wrong = [
        f"{name} ({', '.join(sorted(map(str, found)))})"
        for name, found in pairs.items()
        if len(found) > 1
    ]
    if differing or dict(given) != dict(winner.hyperparameters):
        wrong.append("hyperparameters")
    if winner.recipe != key.recipe.as_dict():
        wrong.append("recipe")
    return ArchiveCheck(
        "summary, winner, seeds and model belong together",
        f"differ: {', '.join(wrong)}" if wrong else "",
    )


def check_row(table: pd.DataFrame, summary: Summary, seed: int, metrics: Metrics) -> ArchiveCheck:
    """Compute the row's statistics from the seeds again, and compare the model's own seed.

    Args:
        table: The table of seeds.
        summary: The summary.
        seed: The seed of the model.
        metrics: The metrics of the model on the test split.
    """
    wrong: list[str] = []
    bounds = SHARE if summary.as_percent else UNBOUNDED
    for column, given in summary.metrics.items():
        values = table[column].dropna().tolist() if column in table else []
        if not values:
            wrong.append(column)
            continue
        found = compute_statistics(values, bounds)
        pairs = [(found.mean, given.mean), (found.std, given.std)]
        if found.low is not None or found.n < MIN_SEEDS:  # of equal values, earlier code gave one
            pairs += [(found.low, given.low), (found.high, given.high)]
        if given.values:
            pairs += zip(values, given.values, strict=len(values) == len(given.values))
        same = found.n == given.n and all(is_close(one, other, SAME) for one, other in pairs)
        if not same:
            wrong.append(column)
    own = table[table.seed == seed]
    for metric, value in metrics.items():
        expected = list_values(value)
        start = f"test_{metric}["
        listed = [str(name) for name in table if str(name).startswith(start)]
        columns = listed if isinstance(value, list) else [f"test_{metric}"]
        defined = {c for c, v in zip(columns, expected, strict=False) if v is not None}
        if len(own) != 1 or len(columns) != len(expected) or not {*columns} <= {*table}:
            wrong.append(f"test_{metric} of seed {seed} (not recorded)")
            continue
        wrong += [f"{c} (not in the summary)" for c in sorted(defined - summary.metrics.keys())]
        if summary.averaged_epochs:  # the recorded ones are means over epochs
            continue
        recorded = [None if math.isnan(v) else v for v in own[columns].iloc[0].tolist()]
        wrong += [
            f"{column} of seed {seed} ({one} recorded, {other} measured)"
            for column, one, other in zip(columns, recorded, expected, strict=True)
            if not is_close(one, other, TOLERANCE)
        ]
    return ArchiveCheck(
        f"means and deviations of {len(table)} seeds",
        f"differ: {', '.join(wrong)}" if wrong else "",
    )


def check_predictions(path: Path, measured: Mapping[str, Tensor], tolerance: float) -> ArchiveCheck:
    """Compare recorded predictions on the test split with those of the model.

    Args:
        path: The file.
        measured: The model's outputs by column, (examples,) each.
        tolerance: The largest mean difference, relative where values are above 1.
    """
    name = "the model's predictions on the test split"
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError):
        return ArchiveCheck(name, f"{path.name}: not a table in the form of Parquet")
    table = table[table["split"] == "test"] if "split" in table else table
    wrong = []
    for column, tensor in measured.items():
        values = tensor.numpy()
        if column not in table or len(table) != len(values):
            wrong.append(column)
            continue
        recorded = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
        limit = tolerance * max(1.0, float(np.nanmean(np.abs(values))))
        same = np.array_equal(np.isnan(recorded), np.isnan(values))
        if not same or np.nanmean(np.abs(recorded - values)) > limit:
            wrong.append(column)
    return ArchiveCheck(name, f"differ: {', '.join(wrong)}" if wrong else "")


def list_values(value: float | list[float | None] | None) -> list[float | None]:
    """Return the values of a metric: one, or those of a list."""
    return value if isinstance(value, list) else [value]


def is_number(value: object) -> bool:
    """Return whether a decoded value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_close(one: float | None, other: float | None, tolerance: float) -> bool:
    """Return whether two values are the same up to a tolerance, or both undefined."""
    if one is None or other is None:
        return one is other
    both = is_number(one) and is_number(other)
    return both and math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
