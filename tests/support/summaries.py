"""Summaries of studies that nobody ran."""

from pathlib import Path

import numpy as np

from datasets.benchmark import Benchmark
from tuning.records.provenance import collect_provenance
from tuning.reporting.intervals import SHARE, UNBOUNDED, compute_statistics
from tuning.reporting.summary import Summary, write_summary


def make_summary_of(
    benchmark: Benchmark, method: str, seeds: int = 1, seed: int | None = None
) -> Summary:
    """Return a summary with the same value for all metrics, or with random ones.

    Args:
        benchmark: The data set.
        method: The method.
        seeds: Confirmation seeds.
        seed: Draws the metrics; None for 0.5.
    """
    random = np.random.default_rng(seed)
    names = [
        f"{split}_{name}" for name in benchmark.higher_is_better for split in ("validation", "test")
    ]
    groups = benchmark.list_group_names("test")
    names += [f"test_group_accuracy[{group}]" for group in groups]
    bounds = SHARE if benchmark.as_percent else UNBOUNDED
    scale = 1 if benchmark.as_percent else 10 ** random.uniform(-3, 1.5)
    drawn = {
        name: list(scale * random.random(seeds)) if seed is not None else [0.5] * seeds
        for name in names
    }
    return Summary(
        method=method, dataset=benchmark.name, dataset_version="1", baseline=None,
        as_percent=benchmark.as_percent, higher_is_better=dict(benchmark.higher_is_better),
        gradients="exact", rule=benchmark.default_selection_rule, oracle=False, averaged_epochs=0,
        search="random", scheduler="none", search_seeds=1, needs=[],
        reported_metrics=list(benchmark.reported_metrics), complete=True, trials=1, statuses={},
        epochs_per_trial=1, seeds=seeds, epochs=1, device="cpu", device_hours=0.0,
        hyperparameters={"lr": 0.1, "model": "google/vit-base-patch16-224-in21k"},
        training_split="train",
        metrics={name: compute_statistics(found, bounds) for name, found in drawn.items()},
        provenance=collect_provenance(),
        worst_groups=dict.fromkeys(groups[:1], seeds),
    )  # fmt: skip


def write_summary_of(folder: Path, summary: Summary) -> None:
    """Write a summary where the results folder has it."""
    target = folder / summary.dataset / summary.method
    target.mkdir(parents=True)
    write_summary(target, summary)
