"""``python -m datasets.describe NAME``: the data card of a benchmark."""

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

import datasets
from common.arguments import Parser
from common.errors import UserError
from datasets.benchmark import SPLITS, Benchmark
from datasets.groups.base import GroupBenchmark, Groups
from datasets.groups.table import TableBenchmark
from datasets.multitask.base import TaskBenchmark
from datasets.on_disk import OnDisk

ACCURACY = 0.8  # at which the noise of a small group is told


def parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    found = Parser(
        prog="python -m datasets.describe",
        description="Print the data card of a benchmark: source and terms, splits, groups or "
        "tasks, and what the smallest validation group means for the noise of selection.",
        allow_abbrev=False,
    )
    found.add_argument("names", nargs="+", metavar="NAME", help="a data set, or several")
    found.add_argument(
        "--data-root", type=Path, default=Path("data"), help="the folder of all data sets (data)"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)  # a file, whose lines nothing wraps
    code = 0
    for name in options.names:
        try:
            describe(datasets.load_benchmark(name, options.data_root), console)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
    return code


def describe(benchmark: Benchmark, console: Console) -> None:
    """Print a benchmark's card; what needs the data is told where they are there."""
    lines = [f"{benchmark.name}, version {benchmark.version}"]
    card = getattr(benchmark, "card", None)
    if card is not None:
        lines += [card.title, f"Source:  {card.source}", f"Terms:   {card.licence}"]
        lines += [f"Paper:   {card.paper}", *(f"Note:    {note}" for note in card.notes)]
    console.rule(Text(lines[0]), align="left")
    for line in lines[1:]:
        console.print(Text(line))
    problems = benchmark.find_problems() if isinstance(benchmark, OnDisk) else []
    if isinstance(benchmark, TaskBenchmark):
        _tasks(benchmark, console)
    if problems:
        console.print(Text(f"Data:    not complete: {problems[0]}"))
        if len(problems) > 1:
            console.print(Text(f"         and {len(problems) - 1:,} more problems"))
        if isinstance(benchmark, TableBenchmark):
            with suppress(UserError):  # the table may be there though other files are not
                _ = benchmark.table
                _contents(benchmark, console)
        return
    _contents(benchmark, console)
    console.print(Text(f"Trained: {_protocol(benchmark)}"))
    console.print(Text(f"Selects: {benchmark.selection_metric}"))
    try:
        console.print(Text(f"Hash:    {benchmark.data_hash}"))
    except UserError as error:
        console.print(Text(f"Hash:    not known yet: {error}"))


def _protocol(benchmark: Benchmark) -> str:
    found = benchmark.training_config
    return (
        f"{found.model}, {found.epochs} epochs, batches of {found.batch_size}, {found.optimizer}, "
        f"lr {found.lr:g}, weight decay {found.weight_decay:g}, schedule {found.schedule}"
    )


def _contents(benchmark: Benchmark, console: Console) -> None:
    """Print what the splits hold."""
    if not isinstance(benchmark, GroupBenchmark):
        sizes = (f"{len(benchmark.splits[name]):,} {name}" for name in SPLITS)
        console.print(Text(f"Splits:  {', '.join(sizes)}"))
        return
    counts = {name: _counts(benchmark, name) for name in SPLITS}
    console.print(Text(f"Classes: {_numbered(benchmark.groups.classes)}"))
    if benchmark.separate_train_groups is not None:
        _table(console, benchmark.train_groups, {"train": counts.pop("train")})
    _table(console, benchmark.groups, counts)
    published = getattr(benchmark, "published_counts", {})
    for name, expected in published.items():
        found = _counts(benchmark, name)
        if tuple(found) != tuple(expected):
            console.print(
                Text(f"Caution: {name} differs from the published groups, {list(expected)}")
            )
    for sentence in benchmark.list_warnings() if isinstance(benchmark, OnDisk) else ():
        console.print(Text(f"Caution: not to be trained on: {sentence}"))
    console.print(Text(f"Noise:   {noise(benchmark.groups, counts['validation'])}"))


def _counts(benchmark: GroupBenchmark, split: str) -> list[int]:
    """Return the number of examples per group."""
    if isinstance(benchmark, TableBenchmark):
        return benchmark.count_groups(split)  # of the table: nothing is decoded or tokenised for it
    groups = benchmark.train_groups if split == "train" else benchmark.groups
    group = benchmark.splits[split].group
    assert group is not None
    return list(group.bincount(minlength=len(groups)).tolist())


def _numbered(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


def _table(console: Console, groups: Groups, counts: dict[str, list[int]]) -> None:
    """Print groups with counts and shares."""
    table = Table("group", "class", "attribute", box=None, padding=(0, 2, 0, 0))
    for name in counts:
        table.add_column(name, justify="right")
    for number in range(len(groups)):
        y, a = divmod(number, len(groups.attributes))
        cells = [str(number), groups.classes[y], groups.attributes[a]]
        for values in counts.values():
            share = values[number] / max(sum(values), 1)
            cells.append(f"{values[number]:,} ({share:.1%})")
        table.add_row(*(Text(cell) for cell in cells))
    totals = [f"{sum(values):,} (100.0%)" for values in counts.values()]
    table.add_row("all", "", "", *totals, style="bold")
    console.print(table)


def noise(groups: Groups, counts: Sequence[int]) -> str:
    """Return what the smallest validation group means for selection by the worst group."""
    number = min((g for g in range(len(groups)) if counts[g]), key=lambda g: counts[g])
    count = counts[number]
    error = 100 * math.sqrt(ACCURACY * (1 - ACCURACY) / count)
    return (
        f"the smallest validation group is {number} ({groups.names[number]}) with {count:,} "
        f"examples: there, an accuracy of {ACCURACY:.0%} has a standard error of {error:.1f} "
        f"points, and one example is {100 / count:.2f} points. Configurations whose worst group "
        "differs by less are not told apart."
    )


def _tasks(benchmark: TaskBenchmark, console: Console) -> None:
    """Print tasks with metrics and what single-task models reach."""
    baseline = benchmark.baseline
    table = Table("task", "loss", "outputs", "metric", "better", box=None, padding=(0, 2, 0, 0))
    table.add_column("baseline", justify="right")
    for task in benchmark.tasks:
        for number, (metric, higher) in enumerate(task.higher_is_better.items()):
            first = (task.name, task.loss, str(task.output_size)) if number == 0 else ("", "", "")
            value = f"{baseline.metrics[metric]:g}"
            cells = (*first, metric, "higher" if higher else "lower", value)
            table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    console.print(
        Text(f"Baseline: {baseline.name}, version {baseline.version} ({baseline.source})")
    )


if __name__ == "__main__":
    sys.exit(main())
