"""The runs of the recorded tables: which configurations train on which seeds, in which order."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import datasets
from common.hyperparameters import Hyperparameters, list_defaults
from core.recipe.method_files import load_method
from tuning.options import Options
from tuning.search.searchers.random import RandomSearcher, sample_hyperparameters
from tuning.search.space import Space, make_space

CONFIGURATIONS = 60  # drawn at random, numbered from 1; number 0 has the defaults
SEEDS = 8
SLOW_SEEDS = 2  # of tables whose runs take longest: one is searched, the other judges
STUDY_SEED = 0
POSTS = "folder"


@dataclass(frozen=True)
class TableName:
    """A method on a data set."""

    method: str
    dataset: str

    def __str__(self) -> str:
        return f"{self.method}-{self.dataset}"


TABLES = tuple(
    TableName(*names)
    for names in (
        ("rwg", "colored_digits"),
        ("erm", "colored_digits"),
        ("dro", "colored_digits"),
        ("jtt", "colored_digits"),
        ("ls", "two_digits"),
        ("fairgrad", "two_digits"),
    )
)
POSTS_TABLE = TableName("rwg", POSTS)  # of real posts, only where their folder is given
SLOW_TABLES = (*TABLES[3:], POSTS_TABLE)


@dataclass(frozen=True)
class PlannedRun:
    """A configuration to train on a seed."""

    table: TableName
    configuration: int
    seed: int


def plan_runs(tables: tuple[TableName, ...]) -> Iterator[PlannedRun]:
    """Yield all runs, those first that make a table of all configurations early."""
    for seed in range(SEEDS):
        for table in tables:
            if seed < SLOW_SEEDS or table not in SLOW_TABLES:
                for configuration in range(CONFIGURATIONS + 1):
                    yield PlannedRun(table, configuration, seed)


@cache
def load_space(table: TableName, data_root: Path | None = None) -> Space:
    """Return the search space of a table, of whose ranges its configurations are drawn.

    Args:
        table: The table.
        data_root: The folder that :mod:`benchmarks.civil_posts` made, for the table of posts.
    """
    options = Options((table.method,), table.dataset)
    benchmark = datasets.load_benchmark(table.dataset, str(data_root or "data"))
    if table.dataset == POSTS:
        options = Options(
            (table.method,), table.dataset, epochs=3, pinned={"model": find_text_model()}
        )
    return make_space(load_method(table.method), benchmark, options)


def find_text_model() -> str:
    """Return the folder of the small encoder of :mod:`benchmarks.civil_posts`."""
    from benchmarks.civil_posts import MODEL

    return os.fspath(MODEL)


def draw_configurations(space: Space) -> list[Hyperparameters]:
    """Return the defaults, then the random configurations."""
    entropy = RandomSearcher(space.free, STUDY_SEED, space.method.name).entropy
    generators = [
        np.random.Generator(np.random.PCG64([*entropy, number])) for number in range(CONFIGURATIONS)
    ]
    drawn = [sample_hyperparameters(space.free, generator) for generator in generators]
    return [list_defaults(space.free), *drawn]
