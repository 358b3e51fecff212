"""Measure search strategies on recorded training curves.

    python -m benchmarks.selection train --work WORK [--processes 2]
    python -m benchmarks.selection pack --work WORK

``train`` trains every configuration of every table on every seed and may be stopped and started
again; ``pack`` writes the tables of this folder from its results.
"""

import argparse
from pathlib import Path

from benchmarks.selection.planned_runs import POSTS_TABLE, TABLES
from benchmarks.selection.recorded_table import pack_tables
from benchmarks.selection.train_runs import read_results, train_runs
from common.paths import parse_path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "pack"):
        add = commands.add_parser(name).add_argument
        add("--work", type=parse_path, required=True, help="folder of the runs")
        if name == "train":
            add("--processes", type=int, default=1, help="runs at once, of one thread each (1)")
            add("--posts", type=parse_path, help="data that benchmarks.civil_posts made")
    args = parser.parse_args()
    path: Path = args.work / "runs.jsonl"
    if args.command == "train":
        tables = TABLES if args.posts is None else (*TABLES, POSTS_TABLE)
        train_runs(path, tables, args.processes, args.posts)
    else:
        pack_tables(read_results(path))


if __name__ == "__main__":
    main()
