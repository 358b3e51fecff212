"""Short runs of every method, and their comparison."""

import itertools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import datasets
from benchmarks.gpu.made_data import make_small_benchmark
from core.environment import detect_environment
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from core.training.profiling import take_first_steps
from core.training.run import Run
from datasets.benchmark import Benchmark

Row = dict[str, Any]


ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ("colored_digits", "two_digits", "imbalanced_tasks")
MADE = ("made_texts", "made_images")
EARLY_STEPS = 5  # steps after which rounding has not grown yet
# Relative deviations of losses from the CPU's: after EARLY_STEPS steps in float32, as it is set up
# (cuDNN may round convolutions' inputs to TF32) and without TF32; after two epochs; bfloat16.
STRICT, DEFAULT_TF32, TRAINED, HALF = 1e-3, 1e-2, 0.1, 0.3
WORKERS = 14


@cache
def load_benchmark(name: str) -> Benchmark:
    """Return an embedded or a made-up benchmark."""
    return make_small_benchmark(name) if name in MADE else datasets.load_benchmark(name)


def list_pairs(quick: bool) -> list[tuple[str, str]]:
    """Return methods and data sets that fit each other, data sets in turn."""
    found: list[list[tuple[str, str]]] = []
    for name in (*EMBEDDED, *MADE):
        provides = load_benchmark(name).provides
        fitting = [m for m in list_methods() if load_method(m).needs <= provides]
        found.append([(m, name) for m in fitting])
    if quick:
        found = [entries[6:7] for entries in found]
    turns = itertools.zip_longest(*found)
    return [pair for turn in turns for pair in turn if pair is not None]


def make_run(
    method: str, dataset: str, device: str, precision: str = "float32", exact: bool = False,
    **config: Any,
) -> Run:  # fmt: skip
    """Return a run of two epochs a stage at most, of larger batches than usual."""
    benchmark = load_benchmark(dataset)
    resolved = resolve_method(load_method(method), benchmark)
    size = 64 if dataset in MADE else 256  # some steps an epoch
    given: dict[str, Any] = {"epochs": 2, "batch_size": size, **config}
    given |= {k: 1 for k in ("T", "pretrain_epochs") if k in resolved.hyperparameters}
    environment = detect_environment(device == "cuda", 1, exact, precision)
    return Run(resolved.make_key(given, 0, environment), benchmark)


def train_epoch(run: Run) -> Row:
    """Train an epoch; return its row without the time."""
    return {k: v for k, v in run.train_epoch().as_dict().items() if k != "seconds"}


def finish_run(run: Run) -> list[Row]:
    """Train all epochs that are left; return their rows."""
    rows = []
    while run.epochs_done < run.total_epochs:
        rows.append(train_epoch(run))
    return rows


def flatten_weights(run: Run) -> Tensor:
    """Return the model's parameters in one vector, float64 on the host."""
    return torch.cat([p.detach().double().cpu().flatten() for p in run.model.parameters()])


def compute_deviation(found: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Return the largest relative difference; infinite where one is not finite."""
    apart = [abs(found[name] - value) / max(abs(value), 1e-8) for name, value in expected.items()]
    return max((a if a == a else float("inf") for a in apart), default=0.0)


def train_run(run: Run) -> tuple[dict[str, float], list[Row], Tensor]:
    """Return the last losses, all rows and the weights."""
    rows = finish_run(run)
    losses: dict[str, float] = next((row["losses"] for row in reversed(rows) if row["losses"]), {})
    return losses, rows, flatten_weights(run)


def take_early_steps(run: Run) -> tuple[dict[str, float], Tensor]:
    """Return the mean losses of the first steps and the weights after them."""
    *_, trainer = take_first_steps(run, 0, EARLY_STEPS)
    return trainer.mean_losses(), flatten_weights(run)


@contextmanager
def disable_tf32() -> Iterator[None]:
    """Keep cuDNN from rounding the inputs of convolutions."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def silence_process() -> None:
    """Ignore warnings, and take one thread."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def shorten_path(name: str) -> str:
    """Return a path relative to the project."""
    return name.removeprefix(f"{ROOT}/")
