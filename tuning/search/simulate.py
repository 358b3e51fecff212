"""Which searcher and scheduler would have served an earlier study best: its records, replayed.

``simulate(FOLDER)`` takes one method's records, trains nothing and answers in seconds. A proposed
configuration trains as its nearest recorded one did, epoch by epoch, in the recorded time; slots
work in parallel, and ASHA stops whom it stops. That is a surrogate: it tells how searchers and
schedulers spend time on such curves, not what a new search would find between them.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common.errors import UserError
from common.hyperparameters import Hyperparameter, Hyperparameters
from tuning import selection
from tuning.records.method_records import MethodRecords
from tuning.records.run_record import RunRecord
from tuning.records.storage import Storage
from tuning.search.searchers.base import Searcher
from tuning.search.searchers.random import RandomSearcher
from tuning.search.searchers.tpe import TPESearcher
from tuning.search.successive_halving import SuccessiveHalving, make_successive_halving
from tuning.selection import Rule, Score, score_records

SEARCHES = ("random", "tpe")
SCHEDULERS = ("none", "asha")
SHOWN = 10  # methods' records that a message names
LEAST = 5  # configurations with a full curve, below which a comparison tells nothing


@dataclass(frozen=True)
class Curve:
    """What a recorded configuration did.

    Args:
        config: Its values.
        scores: Of each epoch; None where the epoch was not eligible.
        seconds: Of each epoch.
    """

    config: Hyperparameters
    scores: tuple[Score | None, ...]
    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The best epoch's value."""
        return max(score.value for score in self.scores if score is not None)


@dataclass(frozen=True)
class Table:
    """An earlier study of one method.

    Args:
        name: Data set and method.
        hyperparameters: What it searched.
        rule: How it selected.
        curves: Its configurations that trained to their end.
        left_out: How many did not.
    """

    name: str
    hyperparameters: Mapping[str, Hyperparameter]
    rule: Rule
    curves: list[Curve]
    left_out: int

    def nearest(self, config: Mapping[str, Any]) -> Curve:
        """Return the recorded configuration nearest to a proposed one."""
        return min(
            self.curves, key=lambda curve: distance(self.hyperparameters, curve.config, config)
        )


@dataclass(frozen=True)
class Outcome:
    """What a simulated search came to.

    Args:
        value: The winner's value.
        device_hours: What all epochs took.
        hours: What passed meanwhile.
        pruned: How many configurations were stopped early.
    """

    value: float
    device_hours: float
    hours: float
    pruned: int


def distance(
    hyperparameters: Mapping[str, Hyperparameter], one: Mapping[str, Any], other: Mapping[str, Any]
) -> float:
    """Return the squared distance of two configurations, each range scaled to a length of one."""
    total = 0.0
    for name, hyperparameter in hyperparameters.items():
        a, b = one.get(name, hyperparameter.default), other.get(name, hyperparameter.default)
        if hyperparameter.kind == "choice":
            total += a != b
        else:
            low, high = hyperparameter.bounds
            if hyperparameter.log:
                low, high, a, b = (math.log(float(value)) for value in (low, high, a, b))
            total += ((float(a) - float(b)) / (high - low)) ** 2 if high > low else 0.0
    return total


def read(folder: str | Path) -> Table:
    """Return the study that a method's records hold.

    Args:
        folder: ``<storage>/<dataset>/<method>``, a folder or a URL.

    Raises:
        UserError: If there is none, or too little of one.
    """
    records = MethodRecords(folder)
    definition = records.read_definition()
    if definition is None:
        raise UserError(
            f"--simulate: '{folder}' holds no study: expected one method's records, "
            f"<storage>/<dataset>/<method>, with its study.json{_said(_below(records.storage))}"
        )
    rule = selection.get_rule(definition.select)
    runs: dict[int, list[RunRecord]] = {}
    for run in records.list_runs():
        description = run.read_description()
        if description is not None and description.phase == "search":
            runs.setdefault(description.number, []).append(run)
    whole = [curve for _, seeds in sorted(runs.items()) if (curve := _curve(rule, seeds))]
    if len(whole) < LEAST:
        raise UserError(
            f"--simulate: '{folder}' holds {len(whole)} configurations that trained to their end, "
            f"expected at least {LEAST}: a study with --search random --scheduler none has many"
        )
    name = f"{definition.dataset}/{records.name}"
    return Table(name, definition.space, rule, whole, len(runs) - len(whole))


def _below(root: Storage) -> list[str]:
    """Return the methods' records below a storage's root, or below one of its data sets."""
    with suppress(OSError):  # a folder that may not be read has nothing to tell
        children = [root / name for name in root.list_names()]
        inner = [child / name for child in children for name in child.list_names()]
        return [str(found) for found in (*children, *inner) if found.exists("study.json")]
    return []


def _said(found: list[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"; below it are {', '.join(found[:SHOWN])}{more}" if found else ""


def _curve(rule: Rule, seeds: Sequence[RunRecord]) -> Curve | None:
    """Return a configuration's curve; None where it was pruned, failed or is not finished."""
    ends = [run.read_end() for run in seeds]
    if any(end is None or end.status not in ("completed", "stopped_early") for end in ends):
        return None
    scores = score_records(rule, list(seeds))
    if not any(score is not None for score in scores):
        return None
    rows = [run.read_rows() for run in seeds]
    seconds = tuple(sum(float(row["seconds"]) for row in same) for same in zip(*rows, strict=False))
    description = seeds[0].read_description()
    config = {} if description is None else dict(description.hyperparameters)
    return Curve(config, tuple(scores), seconds)


def search(table: Table, searcher: Searcher, scheduler: str, trials: int, slots: int) -> Outcome:
    """Simulate one search: trials in parallel, each epoch at the time at which it would end."""
    asha = _asha(table) if scheduler == "asha" else None
    best: dict[int, float] = {}
    events: list[tuple[float, int, int]] = []  # when, which trial, which epoch ends then
    curves: dict[int, Curve] = {}
    now = spent = 0.0
    pruned = 0

    def begin(number: int) -> None:
        config = searcher.propose_hyperparameters(number) if number < trials else None
        if config is None:
            return
        curves[number] = table.nearest(config)
        heapq.heappush(events, (now + curves[number].seconds[0], number, 0))

    for number in range(slots):
        begin(number)
    while events:
        now, number, index = heapq.heappop(events)
        curve = curves[number]
        spent += curve.seconds[index]
        score = curve.scores[index]
        stop = False
        if score is not None:
            best[number] = max(best.get(number, -math.inf), score.value)
            eligible = sum(s is not None for s in curve.scores[: index + 1])
            stop = asha is not None and asha.report(number, eligible, best[number])
        last = index + 1 == len(curve.scores)
        if not last and not stop:
            heapq.heappush(events, (now + curve.seconds[index + 1], number, index + 1))
            continue
        pruned += not last
        searcher.report_trial(number, curve.scores[: index + 1], "completed" if last else "pruned")
        begin(len(curves))
    return Outcome(max(best.values(), default=-math.inf), spent / 3600, now / 3600, pruned)


def _asha(table: Table) -> SuccessiveHalving:
    """Return the pruner that a study would have."""
    return make_successive_halving(
        max(sum(score is not None for score in curve.scores) for curve in table.curves)
    )


def make(name: str, table: Table, seed: int) -> Searcher:
    """Return a searcher of that name."""
    if name == "tpe":
        return TPESearcher(table.hyperparameters, seed)
    return RandomSearcher(table.hyperparameters, seed, table.name)


def simulate(
    folder: str | Path, trials: int | None = None, slots: int = 4, repeats: int = 10
) -> str:
    """Compare searchers and schedulers over an earlier study's records; return a table.

    Args:
        folder: One method's records.
        trials: Configurations of each simulated search; None for as many as are recorded.
        slots: How many run at once.
        repeats: Simulated searches of each kind, which differ in the seed.

    Raises:
        UserError: If the folder holds no study, or too little of one.
    """
    table = read(folder)
    count = trials or len(table.curves)
    shown = table.rule.name
    lines = [
        f"{table.name}: {len(table.curves)} recorded configurations"
        + (
            f" ({table.left_out} pruned, failed or unfinished ones left out)"
            if table.left_out
            else ""
        )
        + f"; {count} trials, {slots} at once, mean ± standard deviation of {repeats} searches",
        "",
        f"| search | scheduler | {shown} | device-hours | hours | pruned |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in SEARCHES:
        for scheduler in SCHEDULERS:
            found = [
                search(table, make(name, table, seed), scheduler, count, slots)
                for seed in range(repeats)
            ]
            values = [-o.value if table.rule.lower else o.value for o in found]
            lines.append(
                f"| {name} | {scheduler} | {_with_deviation(values)} "
                f"| {fmean(o.device_hours for o in found):.3g} "
                f"| {fmean(o.hours for o in found):.3g} "
                f"| {fmean(o.pruned for o in found) / count:.0%} |"
            )
    best = max(curve.best for curve in table.curves)
    lines += ["", f"best recorded: {-best if table.rule.lower else best:.4f}"]
    return "\n".join(lines)


def _with_deviation(values: Sequence[float]) -> str:
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{fmean(values):.4f} ± {deviation:.4f}"
