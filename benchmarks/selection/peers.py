"""Peers of the strategies: Optuna's samplers and pruners, as its users run them.

Optuna's CMA-ES and the schedulers of Syne Tune and NePS take part where ``cmaes``, ``syne_tune``
and ``neps`` are installed, which the project does not require.
"""

import importlib
import logging
import warnings
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec

import numpy as np
import optuna
import torch

from benchmarks.selection.strategies import Choice, Replay, Strategy, find_configuration
from common.hyperparameters import list_defaults
from tuning.search.recorded_curves import Curve
from tuning.search.searchers.tpe import suggest_value


def make_optuna(
    make_sampler: Callable[[int], optuna.samplers.BaseSampler],
    make_pruner: Callable[[int], optuna.pruners.BasePruner],
    has_default: bool = False,
) -> Strategy:
    """Return a study of Optuna as its users write one: ask, report epochs, prune, best trial.

    Args:
        make_sampler: Returns the sampler of a seed.
        make_pruner: Returns the pruner of trials of so many epochs.
        has_default: Whether the first trial has the default hyperparameters.
    """

    def run(replay: Replay) -> Choice:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pool = replay.curves.make_pool(replay.seeds[:1], start=replay.start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several are marked experimental
            study = optuna.create_study(
                direction="maximize",
                sampler=make_sampler(replay.seed),
                pruner=make_pruner(pool.eligible_epochs),
            )
            if has_default:
                study.enqueue_trial(list_defaults(pool.space))
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


def make_syne_tune(name: str) -> Strategy:
    """Return a scheduler of Syne Tune (``syne_tune.optimizer.baselines``) with the study's rungs.

    Args:
        name: Its class.
    """

    def run(replay: Replay) -> Choice:
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        spaces = importlib.import_module("syne_tune.config_space")
        backend = importlib.import_module("syne_tune.backend.trial_status")
        make_scheduler = getattr(importlib.import_module("syne_tune.optimizer.baselines"), name)
        pool = replay.curves.make_pool(replay.seeds[:1], start=replay.start)
        domains = {
            key: spaces.choice(list(domain.values))
            if domain.kind == "choice"
            else (spaces.loguniform if domain.is_log else spaces.uniform)(*domain.bounds)
            for key, domain in pool.space.items()
        }
        epochs = pool.eligible_epochs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = make_scheduler(
                domains, metric="value", time_attr="epoch", max_t=epochs, do_minimize=False,
                random_seed=replay.seed, grace_period=max(1, epochs // 9), reduction_factor=3,
            )  # fmt: skip
            spent, best, chosen, number = 0.0, -np.inf, pool.curves[0], 0
            while spent < replay.budget and pool.left:
                suggestion = scheduler.suggest()
                trial = backend.Trial(number, suggestion.config, datetime(2026, 1, 1))
                scheduler.on_trial_add(trial)
                curve = pool.find_nearest(suggestion.config)
                number += 1
                highest, step = -np.inf, 0
                for score in curve.scores:
                    spent += 1
                    if score is None:
                        continue
                    step += 1
                    highest = max(highest, score.value)
                    result = {"value": highest, "epoch": step}
                    if scheduler.on_trial_result(trial, result) == "STOP":
                        break
                    if step == epochs:
                        scheduler.on_trial_complete(trial, result)
                if highest > best:
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


def make_neps(name: str) -> Strategy:
    """Return an algorithm of NePS (``neps.algorithms``), the defaults as its prior and first trial.

    Args:
        name: Its function.
    """

    def run(replay: Replay) -> Choice:
        neps = importlib.import_module("neps")
        logging.getLogger("neps").setLevel(logging.ERROR)
        pool = replay.curves.make_pool(replay.seeds[:1], start=replay.start)
        defaults = list_defaults(pool.space)
        space = {
            key: neps.HPOCategorical(list(domain.values), prior=defaults[key])
            if domain.kind == "choice"
            else neps.HPOFloat(*domain.bounds, log=domain.is_log, prior=defaults[key])
            for key, domain in pool.space.items()
        }
        space["epochs"] = neps.HPOInteger(1, pool.eligible_epochs, is_fidelity=True)
        torch.manual_seed(replay.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            algorithm = getattr(neps.algorithms, name)
            optimizer = neps.AskAndTell(algorithm(neps.SearchSpace(space), sample_prior_first=True))
            spent, best, chosen = 0.0, -np.inf, pool.curves[0]
            known: dict[str, tuple[Curve, int]] = {}  # of each trial, with its epochs
            while spent < replay.budget and pool.left:
                trial = optimizer.ask()
                values = dict(trial.config)
                epochs = int(values.pop("epochs"))
                earlier = known.get(trial.metadata.previous_trial_id or "")
                curve, trained = earlier or (pool.find_nearest(values), 0)
                ineligible = sum(score is None for score in curve.scores)
                known[trial.metadata.id] = curve, epochs
                spent += max(0, epochs - trained) + (0 if trained else ineligible)
                scores = [score.value for score in curve.scores if score is not None]
                highest = max(scores[:epochs])
                optimizer.tell(trial, -highest)
                if highest > best:
                    best, chosen = highest, curve
        return Choice(find_configuration(replay, chosen), spent)

    return run


SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "multivariate TPE": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "multivariate TPE in groups": lambda seed: optuna.samplers.TPESampler(
        seed=seed, multivariate=True, group=True
    ),
    "TPE after 4 random trials": lambda seed: optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=4
    ),
    "GP": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
if find_spec("cmaes") is not None:
    SAMPLERS["CMA-ES"] = lambda seed: optuna.samplers.CmaEsSampler(seed=seed)
# All but one begin with the default, as the project's searches do: without it they lose most.
PEERS: dict[str, Strategy] = {
    "Optuna, TPE, successive halving": make_optuna(SAMPLERS["TPE"], make_optuna_halving),
    **{
        f"Optuna, {name} from the default, successive halving": make_optuna(
            make_sampler, make_optuna_halving, has_default=True
        )
        for name, make_sampler in SAMPLERS.items()
    },
    "Optuna, multivariate TPE from the default, hyperband": make_optuna(
        SAMPLERS["multivariate TPE"], make_optuna_hyperband, has_default=True
    ),
    "Optuna, random from the default, median": make_optuna(
        lambda seed: optuna.samplers.RandomSampler(seed=seed),
        lambda _: optuna.pruners.MedianPruner(),
        has_default=True,
    ),
}
if find_spec("neps") is not None:
    PEERS |= {f"NePS, {name} from the default": make_neps(name)
              for name in ("priorband", "hyperband", "asha")}  # fmt: skip
if find_spec("syne_tune") is not None:
    PEERS |= {f"Syne Tune, {name}": make_syne_tune(name) for name in ("ASHA", "BOHB")}
