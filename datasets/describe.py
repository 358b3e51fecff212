"""``python -m datasets.describe NAME``: print the data card of a data set."""

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.console import Console
from rich.table import Table
from rich.text import Text

import datasets
from common.arguments import Parser
from common.errors import UserError
from common.terminal import run_command
from common.text import format_count
from datasets.benchmark import SPLITS, Benchmark
from datasets.groups.base import GroupBenchmark, Groups
from datasets.groups.table import TableBenchmark
from datasets.multitask.base import TaskBenchmark
from datasets.on_disk import OnDisk
from datasets.prepare import add_data_arguments

TYPICAL_ACCURACY = 0.8  # for the standard error of a small group
FILE_WIDTH = 100  # characters of a line where stdout is no terminal


def make_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        prog="python -m datasets.describe",
        description="Print the data card of a data set: source and terms, splits, groups or tasks, "
        "and how noisy selection is, given the size of the smallest validation group.",
        allow_abbrev=False,
    )
    add_data_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = make_parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    status = 0
    for name in options.names:
        try:
            print_card(datasets.load_benchmark(name, options.data_root), console)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    return status


def print_card(benchmark: Benchmark, console: Console) -> None:
    """Print a benchmark's card, without counts where the data are not complete."""
    console.rule(Text(f"{benchmark.name}, version {benchmark.version}"), align="left")
    card = getattr(benchmark, "card", None)
    if card is not None:
        print_lines(
            console,
            card.title,
            f"Source:  {card.source}",
            f"Terms:   {card.license}",
            f"Paper:   {card.paper}",
            *(f"Note:    {note}" for note in card.notes),
        )
    for sentence in benchmark.list_folder_choices() if isinstance(benchmark, OnDisk) else ():
        print_lines(console, f"Note:    {sentence}")
    problems = benchmark.find_problems() if isinstance(benchmark, OnDisk) else []
    if isinstance(benchmark, TaskBenchmark):
        print_tasks(benchmark, console)
    if problems:
        sizes = [f"{count:,} {split}" for split, count in benchmark.published_sizes.items()]
        if sizes:
            print_lines(console, f"Sizes:   {', '.join(sizes)} as published")
        print_lines(console, f"Data:    not complete: {problems[0]}")
        if len(problems) > 1:
            print_lines(console, f"         and {len(problems) - 1:,} more problems")
        if isinstance(benchmark, TableBenchmark):
            with suppress(UserError):  # the table may be there though other files are not
                _ = benchmark.table
                print_splits(benchmark, console)
        return
    for sentence in benchmark.list_notices() if isinstance(benchmark, OnDisk) else ():
        print_lines(console, f"Note:    {sentence}")
    print_splits(benchmark, console)
    print_lines(
        console,
        f"Trained: {summarize_training(benchmark)}",
        f"Selects: {benchmark.default_selection_rule}",
    )
    try:
        print_lines(console, f"Hash:    {benchmark.data_hash}")
    except UserError as error:
        print_lines(console, f"Hash:    not known yet: {error}")


def print_lines(console: Console, *lines: str) -> None:
    """Print lines without markup."""
    for line in lines:
        console.print(Text(line))


def summarize_training(benchmark: Benchmark) -> str:
    """Return the main values of the training config in one line."""
    config = benchmark.training_config
    return (
        f"{config.model}, {format_count(config.epochs, 'epoch')}, batches of {config.batch_size}, "
        f"{config.optimizer}, lr {config.lr:g}, weight decay {config.weight_decay:g}, "
        f"schedule {config.schedule}"
    )


def print_splits(benchmark: Benchmark, console: Console) -> None:
    """Print the sizes of the splits, and of their groups."""
    if not isinstance(benchmark, GroupBenchmark):
        sizes = (f"{len(benchmark.splits[name]):,} {name}" for name in SPLITS)
        print_lines(console, f"Splits:  {', '.join(sizes)}")
        return
    counts = {name: count_groups(benchmark, name) for name in SPLITS}
    numbered = (f"{number} {name}" for number, name in enumerate(benchmark.groups.classes))
    print_lines(console, f"Classes: {', '.join(numbered)}")
    evaluated = dict(counts)
    if benchmark.separate_train_groups is not None:
        train = {name: evaluated.pop(name) for name in SPLITS[:1]}
        print_groups(console, benchmark.train_groups, train)
    print_groups(console, benchmark.groups, evaluated)
    published: Mapping[str, Sequence[int]] = getattr(benchmark, "published_counts", {})
    for name, expected in published.items():
        if tuple(counts[name]) != tuple(expected):
            print_lines(
                console, f"Warning: {name} differs from the published groups, {list(expected)}"
            )
    for sentence in benchmark.list_warnings() if isinstance(benchmark, OnDisk) else ():
        print_lines(console, f"Warning: it cannot be trained on: {sentence}")
    validation = count_groups(benchmark, "validation")
    print_lines(console, f"Noise:   {describe_noise(benchmark.groups, validation)}")


def count_groups(benchmark: GroupBenchmark, split: str) -> list[int]:
    """Return the number of examples per group."""
    if isinstance(benchmark, TableBenchmark):
        return benchmark.count_groups(split)  # of the table, without decoding or tokenizing
    groups = benchmark.train_groups if split == "train" else benchmark.groups
    group = benchmark.splits[split].group
    assert group is not None
    return list(group.bincount(minlength=len(groups)).tolist())


def print_groups(console: Console, groups: Groups, counts: Mapping[str, Sequence[int]]) -> None:
    """Print groups with counts and shares by split."""
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


def describe_noise(groups: Groups, counts: Sequence[int]) -> str:
    """Return how precisely the smallest validation group measures the worst-group accuracy."""
    number = min((g for g in range(len(groups)) if counts[g]), key=lambda g: counts[g])
    count = counts[number]
    error = 100 * math.sqrt(TYPICAL_ACCURACY * (1 - TYPICAL_ACCURACY) / count)
    return (
        f"the smallest validation group is {number} ({groups.names[number]}) with "
        f"{format_count(count, 'example')}: there, an accuracy of {TYPICAL_ACCURACY:.0%} has a "
        f"standard error of {error:.1f} points, and one example is {100 / count:.2f} points. "
        "Smaller differences between worst groups are noise."
    )


def print_tasks(benchmark: TaskBenchmark, console: Console) -> None:
    """Print tasks with their metrics and the values of single-task models."""
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
    print_lines(
        console, f"Baseline: {baseline.name}, version {baseline.version} ({baseline.source})"
    )


if __name__ == "__main__":
    sys.exit(run_command(main, prints_result=True))
