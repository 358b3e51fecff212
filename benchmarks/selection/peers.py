"""Peers of the strategies: Optuna's samplers and pruners, as its users run them."""

import warnings
from collections.abc import Callable

import numpy as np
import optuna

from benchmarks.selection.strategies import Choice, Replay, Strategy, find_configuration
from tuning.search.searchers.tpe import suggest_value


def make_optuna(
    make_sampler: Callable[[int], optuna.samplers.BaseSampler],
    make_pruner: Callable[[int], optuna.pruners.BasePruner],
) -> Strategy:
    """Return a study of Optuna as its users write one: ask, report epochs, prune, best trial."""

    def run(replay: Replay) -> Choice:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pool = replay.curves.make_pool(replay.seeds[:1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several are marked experimental
            study = optuna.create_study(
                direction="maximize",
                sampler=make_sampler(replay.seed),
                pruner=make_pruner(pool.eligible_epochs),
            )
            spent, best, chosen = 0.0, -np.inf, pool.curves[0]
            while spent < replay.budget and pool.left:
                trial = study.ask()
                values = {name: suggest_value(trial, name, d) for name, d in pool.space.items()}
                curve = pool.find_nearest(values)
                highest, step, pruned = -np.inf, 0, False
                for score in curve.scores:
                    spent += 1
                    if score is None:
                        continue
                    step += 1
                    highest = max(highest, score.value)
                    trial.report(highest, step)
                    if trial.should_prune():
                        pruned = True
                        break
                state = optuna.trial.TrialState.PRUNED if pruned else None
                study.tell(trial, None if pruned else highest, state=state)
                if not pruned and highest > best:
                    best, chosen = highest, curve
        return Choice(find_configuration(replay, chosen), spent)

    return run


def make_optuna_halving(epochs: int) -> optuna.pruners.BasePruner:
    """Return Optuna's successive halving with the project's rungs."""
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=max(1, epochs // 9), reduction_factor=3
    )


def make_optuna_hyperband(epochs: int) -> optuna.pruners.BasePruner:
    """Return Optuna's hyperband."""
    return optuna.pruners.HyperbandPruner(
        min_resource=max(1, epochs // 9), max_resource=epochs, reduction_factor=3
    )


PEERS: dict[str, Strategy] = {
    "Optuna, TPE, successive halving": make_optuna(
        lambda seed: optuna.samplers.TPESampler(seed=seed), make_optuna_halving
    ),
    "Optuna, multivariate TPE, hyperband": make_optuna(
        lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True), make_optuna_hyperband
    ),
    "Optuna, GP, successive halving": make_optuna(
        lambda seed: optuna.samplers.GPSampler(seed=seed), make_optuna_halving
    ),
    "Optuna, random, median": make_optuna(
        lambda seed: optuna.samplers.RandomSampler(seed=seed),
        lambda _: optuna.pruners.MedianPruner(),
    ),
}
