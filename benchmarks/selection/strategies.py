"""Search strategies: what they train within a budget of epochs, and the configuration they choose.

Where the project has the part, it is the part that runs: searchers, successive halving, simulated
time and the selection of trials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.selection.curves import TableCurves
from benchmarks.selection.freeze_thaw import search_by_expected_gain
from benchmarks.selection.local_search import LocalSearcher
from core.training.selection import RULES, Rule, choose_variant, select_epoch
from tuning.records.run_data import TrialStatus
from tuning.search.finalist_race import DEFAULT_FINALISTS, FINALIST_SEEDS
from tuning.search.finalists import find_race
from tuning.search.recorded_curves import Curve
from tuning.search.searchers.base import Searcher
from tuning.search.simulate import SimulatedSearch, SimulatedTrial, make_simulated_searcher
from tuning.selection import list_finalists, select_trial

SLOTS = 2  # trials at once
BOOTSTRAPS = 200
GAIN_POINTS = 30.0  # by which trials are expected to differ before there are any


@dataclass(frozen=True)
class Replay:
    """What a strategy sees in one replay.

    Args:
        curves: The table.
        seeds: The training seeds that it may use, in the order in which it takes them.
        seed: Seed of its own draws.
        budget: Epochs to spend.
        start: The configuration of the first trial; 0 is the default.
        random_start: The configuration with which strategies begin that do not know the default.
    """

    curves: TableCurves
    seeds: Sequence[int]
    seed: int
    budget: float
    start: int = 0
    random_start: int = 0


@dataclass(frozen=True)
class Choice:
    """What a strategy chose.

    Args:
        configuration: The number of the configuration.
        epochs: The epochs that it trained.
    """

    configuration: int
    epochs: float


Strategy = Callable[[Replay], Choice]
Chooser = Callable[[Replay, Sequence[SimulatedTrial]], SimulatedTrial]


def search_trials(
    replay: Replay, search: str, scheduler: str, training_seeds: int = 1, ranked_epochs: int = 1
) -> list[SimulatedTrial]:
    """Return the trials of a search by the project's own searcher and scheduler, once made."""
    seeds = tuple(replay.seeds[:training_seeds])
    key = (search, scheduler, seeds, ranked_epochs, replay.seed, replay.budget, replay.start)
    known = replay.curves.searches
    if key not in known:
        pool = replay.curves.make_pool(seeds, ranked_epochs, replay.start)
        if search == "local":
            searcher: Searcher = LocalSearcher(pool.space, replay.seed, pool.name)
        else:
            searcher = make_simulated_searcher(search, pool, replay.seed)
        most = len(pool.curves)
        simulated = SimulatedSearch(pool, searcher, scheduler, most, SLOTS, replay.budget)
        simulated.run()
        known[key] = simulated.ended
    return known[key]


def make_freeze_thaw(search: str, choose: Chooser) -> Strategy:
    """Return a strategy that continues the trial of the greatest expected gain."""

    def run(replay: Replay) -> Choice:
        key = (search, "freeze-thaw", replay.seeds[0], replay.seed, replay.budget, replay.start)
        known = replay.curves.searches
        if key not in known:
            pool = replay.curves.make_pool(replay.seeds[:1], 1, replay.start)
            searcher = make_simulated_searcher(search, pool, replay.seed)
            scale = GAIN_POINTS / replay.curves.points
            known[key] = search_by_expected_gain(pool, searcher, replay.budget, scale)
        trials = known[key]
        chosen = choose(replay, trials)
        return Choice(find_configuration(replay, chosen.curve), count_epochs(trials))

    return run


def count_epochs(trials: Sequence[SimulatedTrial], training_seeds: int = 1) -> float:
    """Return the epochs of trials."""
    return float(sum(len(trial.scores) for trial in trials) * training_seeds)


def find_configuration(replay: Replay, curve: Curve) -> int:
    """Return the number of a curve's configuration."""
    return replay.curves.table.hyperparameters.index(curve.hyperparameters)


# --- choosing among the trials of a search ---


def list_values(trial: SimulatedTrial) -> list[float]:
    """Return the values of a trial's eligible epochs."""
    return [score.value for score in trial.scores if score is not None]


def choose_by_rule(ranked_epochs: int) -> Chooser:
    """Return the project's selection, by the mean of so many best epochs."""

    def choose(replay: Replay, trials: Sequence[SimulatedTrial]) -> SimulatedTrial:
        rule = replace(replay.curves.rule, ranked_epochs=ranked_epochs)
        found = select_trial(trials, rule)
        assert found is not None
        return found

    return choose


def choose_automatically(replay: Replay, trials: Sequence[SimulatedTrial]) -> SimulatedTrial:
    """Choose by the rule of ``--search auto``."""
    found = select_trial(trials, choose_auto_rule(replay.curves.rule))
    assert found is not None
    return found


def _choose_by(value: Callable[[Replay, SimulatedTrial], float]) -> Chooser:
    def choose(replay: Replay, trials: Sequence[SimulatedTrial]) -> SimulatedTrial:
        scored = [trial for trial in trials if list_values(trial)]
        return max(scored, key=lambda trial: (value(replay, trial), -trial.number))

    return choose


def smooth_epochs(_: Replay, trial: SimulatedTrial) -> float:
    """Return the best mean of three neighboring epochs."""
    values = list_values(trial)
    width = min(3, len(values))
    return max(sum(values[i : i + width]) / width for i in range(len(values) - width + 1))


def _read_groups(replay: Replay, trial: SimulatedTrial) -> tuple[np.ndarray, np.ndarray]:
    """Return the accuracies of groups at a trial's best epoch, and the examples of each."""
    table = replay.curves.table
    best = select_epoch(trial.scores)
    assert best is not None
    configuration = find_configuration(replay, trial.curve)
    epoch = best.epoch - 1 - int(table.ineligible[configuration])
    columns = [table.metrics.index(name) for name in table.list_groups()]
    accuracies = table.validation[configuration, replay.seeds[0], epoch][columns]
    return np.nan_to_num(accuracies.astype(np.float64)), np.array(table.group_counts)


def bound_groups(replay: Replay, trial: SimulatedTrial) -> float:
    """Return the lowest accuracy less its standard error, over groups."""
    accuracies, counts = _read_groups(replay, trial)
    smoothed = (accuracies * counts + 1) / (counts + 2)
    return float((accuracies - np.sqrt(smoothed * (1 - smoothed) / counts)).min())


def bootstrap_groups(replay: Replay, trial: SimulatedTrial) -> float:
    """Return the mean worst group over bootstraps of the validation split."""
    accuracies, counts = _read_groups(replay, trial)
    generator = np.random.default_rng(replay.seed)
    drawn = generator.binomial(counts, accuracies, size=(BOOTSTRAPS, len(counts))) / counts
    return float(drawn.min(axis=1).mean())


def make_search(
    search: str,
    scheduler: str,
    choose: Chooser,
    training_seeds: int = 1,
    ranked_epochs: int = 1,
    has_default: bool = True,
) -> Strategy:
    """Return a strategy that searches and then chooses among its trials."""

    def run(replay: Replay) -> Choice:
        if not has_default:
            replay = replace(replay, start=replay.random_start)
        trials = search_trials(replay, search, scheduler, training_seeds, ranked_epochs)
        chosen = choose(replay, trials)
        return Choice(
            find_configuration(replay, chosen.curve), count_epochs(trials, training_seeds)
        )

    return run


# --- further seeds for finalists ---

KEPT_SHARE = 2 / 3  # of the most epochs that a race can take: most races end early


def make_finalists(
    search: str, scheduler: str, count: int, choose_rule: Callable[[Rule], Rule]
) -> Strategy:
    """Return a search whose best trials get further training seeds, the hopeless leaving first.

    Args:
        search: The searcher.
        scheduler: The scheduler.
        count: The number of finalists.
        choose_rule: Makes the rule of the search from the data set's.
    """

    def run(replay: Replay) -> Choice:
        rule = choose_rule(replay.curves.rule)
        epochs = replay.curves.validation.shape[2] + int(replay.curves.table.ineligible.max())
        affordable = int(replay.budget / 2 / (count * epochs))
        seeds = min(FINALIST_SEEDS, len(replay.seeds) - 1, affordable)
        kept = KEPT_SHARE * count * seeds * epochs
        trials = search_trials(
            replace(replay, budget=replay.budget - kept),
            search,
            scheduler,
            ranked_epochs=rule.ranked_epochs,
        )
        spent = count_epochs(trials)
        finalists = list_finalists(trials, rule, count)
        configurations = {t.number: find_configuration(replay, t.curve) for t in finalists}
        runs: dict[int, list[SimulatedTrial]] = {number: [] for number in configurations}
        race = find_race(rule, finalists, runs)
        while race is not None and not race.is_decided and race.seeds < seeds:
            seed = replay.seeds[race.seeds + 1]  # the first one is that of the search
            for number in race.left:
                curve = replay.curves.list_curves([seed])[configurations[number]]
                further = SimulatedTrial(number, curve, curve.scores, TrialStatus.COMPLETED)
                runs[number].append(further)
                spent += len(curve.scores)
            race = find_race(rule, finalists, runs)
        assert race is not None
        return Choice(configurations[race.leader], spent)

    return run


def rank_by_mean(rule: Rule) -> Rule:
    """Return a rule that ranks by the mean of three epochs."""
    return replace(rule, ranked_epochs=3)


def choose_auto_rule(rule: Rule) -> Rule:
    """Return the rule of ``--search auto``."""
    return RULES[choose_variant(rule.name)]


def make_auto(search: str, scheduler: str) -> Strategy:
    """Return ``--search auto`` with another searcher or scheduler."""
    alone = make_search(search, scheduler, choose_automatically)
    race = make_finalists(search, scheduler, DEFAULT_FINALISTS, choose_auto_rule)

    def run(replay: Replay) -> Choice:
        return (race if choose_auto_rule(replay.curves.rule).margin else alone)(replay)

    return run


# The search to improve upon, as it was before it began with the default.
BASE = "tpe, asha, best epoch, no default"
# Strategies that groups make: they read the accuracy of each.
GROUP_STRATEGIES: dict[str, Strategy] = {
    "random, asha, bound by group sizes": make_search("random", "asha", _choose_by(bound_groups)),
    "random, asha, bootstrap": make_search("random", "asha", _choose_by(bootstrap_groups)),
}
STRATEGIES: dict[str, Strategy] = {
    BASE: make_search("tpe", "asha", choose_by_rule(1), has_default=False),
    "auto": make_auto("tpe", "asha"),
    "auto, random": make_auto("random", "asha"),
    "auto, random, all epochs": make_auto("random", "none"),
    "auto, 1 finalist": make_search("tpe", "asha", choose_automatically),
    "tpe, asha, best epoch": make_search("tpe", "asha", choose_by_rule(1)),
    "local, asha, best epoch": make_search("local", "asha", choose_by_rule(1)),
    "local, asha, mean of 3 best": make_search("local", "asha", choose_by_rule(3)),
    "local, all epochs, mean of 3 best": make_search("local", "none", choose_by_rule(3)),
    "tpe, asha, mean of 3 best": make_search("tpe", "asha", choose_by_rule(3)),
    "random, asha, best epoch": make_search("random", "asha", choose_by_rule(1)),
    "random, asha, mean of 3 best": make_search("random", "asha", choose_by_rule(3)),
    "random, asha, mean of 5 best": make_search("random", "asha", choose_by_rule(5)),
    "random, asha, neighbors smoothed": make_search("random", "asha", _choose_by(smooth_epochs)),
    "random, all epochs, best epoch": make_search("random", "none", choose_by_rule(1)),
    "random, all epochs, mean of 3 best": make_search("random", "none", choose_by_rule(3)),
    "random, freeze-thaw, mean of 3 best": make_freeze_thaw("random", choose_by_rule(3)),
    "auto, 1 finalist, freeze-thaw": make_freeze_thaw("random", choose_automatically),
    "random, asha, 2 training seeds": make_search("random", "asha", choose_by_rule(1), 2),
    "random, asha, 2 finalists": make_finalists("random", "asha", 2, rank_by_mean),
    "random, asha, 3 finalists": make_finalists("random", "asha", 3, rank_by_mean),
    "tpe, asha, 3 finalists": make_finalists("tpe", "asha", 3, rank_by_mean),
    "random, promotion, 3 finalists": make_finalists("random", "asha_promotion", 3, rank_by_mean),
    "tpe, promotion, 3 finalists": make_finalists("tpe", "asha_promotion", 3, rank_by_mean),
    "random, promotion, best epoch": make_search("random", "asha_promotion", choose_by_rule(1)),
    "random, promotion, mean of 3 best": make_search(
        "random", "asha_promotion", choose_by_rule(3), ranked_epochs=3
    ),
    "tpe, promotion, mean of 5 best": make_search(
        "tpe", "asha_promotion", choose_by_rule(5), ranked_epochs=5
    ),
    "tpe, promotion, mean of 3 best": make_search(
        "tpe", "asha_promotion", choose_by_rule(3), ranked_epochs=3
    ),
    **GROUP_STRATEGIES,
}
# Training seeds that a strategy must be able to use, where they are several.
NEEDED_SEEDS = {"random, asha, 2 training seeds": 2} | {
    name: 2 for name in STRATEGIES if "finalists" in name
}
