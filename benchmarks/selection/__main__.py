"""Measure search strategies on recorded training curves.

    python -m benchmarks.selection train --work WORK [--processes 2] [--table NAME ...]
    python -m benchmarks.selection pack --work WORK
    python -m benchmarks.selection replay [--replays 200] [--budget 160] [--peers]

``train`` trains every configuration of every table on every seed that the tables of this folder
lack (remove them to train all) and may be stopped and started again; ``pack`` adds its results;
``replay`` prints what each strategy finds in them.
"""

import argparse
from pathlib import Path

from benchmarks.selection.curves import TableCurves
from benchmarks.selection.peers import PEERS
from benchmarks.selection.planned_runs import POSTS_TABLE, TABLES
from benchmarks.selection.recorded_table import pack_tables, read_tables
from benchmarks.selection.replay import BUDGETS, format_average, format_replays, replay_table
from benchmarks.selection.sharing import make_sharing
from benchmarks.selection.strategies import BASE, STRATEGIES, choose_by_rule
from benchmarks.selection.train_runs import read_results, train_runs
from common.paths import parse_path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    known = {str(table): table for table in (*TABLES, POSTS_TABLE)}
    for name in ("train", "pack"):
        add = commands.add_parser(name).add_argument
        add("--work", type=parse_path, required=True, help="folder of the runs")
        if name == "train":
            add("--processes", type=int, default=1, help="runs at once, of one thread each (1)")
            add("--table", nargs="+", choices=known, help="tables in the order to train (all)")
        add("--posts", type=parse_path, help="data that benchmarks.civil_posts made")
    add = commands.add_parser("replay").add_argument
    add("--replays", type=int, default=200, help="replays of each strategy (200)")
    add("--budget", type=int, nargs="+", default=BUDGETS, help="epochs to spend (40 80 160 320)")
    add("--table", nargs="+", help="names of tables, such as rwg-colored_digits (all)")
    add("--strategy", nargs="+", help="names of strategies besides the former search (all)")
    add("--peers", action="store_true", help="replay Optuna's studies too")
    add(
        "--random-start",
        action="store_true",
        help="begin with a random configuration, not with the default",
    )
    args = parser.parse_args()
    if args.command == "replay":
        strategies = {**STRATEGIES, **(PEERS if args.peers else {})}
        chosen = [
            table
            for table in read_tables()
            if len(table.seeds) > 1 and (args.table is None or str(table.name) in args.table)
        ]
        found = []
        all_curves = [TableCurves(table) for table in chosen]
        for curves in all_curves:
            related = [one for one in all_curves if one.name.dataset == curves.name.dataset]
            if len(related) > 1:
                strategies["tpe, asha, shared"] = make_sharing(related, choose_by_rule(1))
            asked = {
                name: strategy
                for name, strategy in strategies.items()
                if args.strategy is None or name in (BASE, *args.strategy)
            }
            found.append(replay_table(curves, asked, args.replays, args.budget, args.random_start))
            for line in format_replays(found[-1], args.replays):
                print(line, flush=True)
        if len(found) > 1:
            print(*format_average(found), sep="\n")
        return
    path: Path = args.work / "runs.jsonl"
    if args.command == "train":
        tables = TABLES if args.posts is None else (*TABLES, POSTS_TABLE)
        if args.table is not None:
            tables = tuple(known[name] for name in args.table)
        trained = [run for table in read_tables() for run in table.list_runs()]
        train_runs(path, tables, args.processes, args.posts, trained)
    else:
        pack_tables(read_results(path), args.posts)


if __name__ == "__main__":
    main()
