"""One method's way through a study: search, select, confirm.

The engine asks :meth:`MethodSearch.next_trial`, hands in each :class:`EpochReport` and is told
whether the configuration goes on.
"""

import itertools
from collections.abc import Mapping
from typing import Any, cast

from common.hyperparameters import Hyperparameters
from core.environment import Environment
from core.recipe.trial_key import TrialKey
from tuning import selection
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.provenance import collect_provenance
from tuning.records.run_data import RunDescription, RunEnd, describe_whole_gpu_retry
from tuning.records.storage import StorageError
from tuning.resources import Resources
from tuning.search.space import Space, count_trials, describe_hyperparameters, make_searcher
from tuning.search.successive_halving import SuccessiveHalving, make_successive_halving
from tuning.search.trial import Trial
from tuning.selection import Score
from tuning.worker.trial_work import OUT_OF_MEMORY, STORAGE_FAILED, EpochReport

SEARCH_SEED = 1000  # training seeds of a search count from here, confirmation seeds from 0
# Of a configuration whose process died, its node's death apart; and of one that was not recorded.
RETRIES = 3
# Deaths without a new epoch in between, the nodes' included, after which it fails all the same:
# such a trial ends its machines itself, or no machine stays for one of its epochs.
MOST_DEATHS = 20


class MethodSearch:
    """The study of one method.

    Args:
        space: The method, the benchmark, and what is free.
        options: The command.
        environment: Where trials compute.
        records: The method's records, which may hold an earlier session's.
    """

    def __init__(
        self, space: Space, options: Options, environment: Environment, records: MethodRecords
    ) -> None:
        self.space = space
        self.options = options
        self.environment = environment
        self.records = records
        self.rule = selection.get_rule(options.select or space.benchmark.selection_metric)
        self.trial_budget = count_trials(space, options)
        self.trials: dict[int, Trial] = {}
        self._contenders: list[Trial] = []  # trials that have not ended, and the best that has
        self._numbers = itertools.count()
        self.seeds: dict[int, Trial] = {}
        self.exhausted = False
        self.pruner = self._make_pruner()
        earlier = self._recorded_trials()
        self.searcher = make_searcher(space, options, len(earlier))
        self._replay(earlier)
        if self.is_search_done:
            self._begin_confirmation()

    @property
    def name(self) -> str:
        """The method's name."""
        return self.space.method.name

    def count_epochs(self) -> tuple[int, int]:
        """The epochs that selection looks at, and all epochs, with default hyperparameters."""
        return self.space.resolved.count_epochs(self.space.fixed)

    def key_settings(self) -> dict[str, Any]:
        """The training config of a trial with default hyperparameters."""
        key = self.space.resolved.make_key(self.space.fixed, 0, self.environment)
        return key.training_config.as_dict()

    def _make_pruner(self) -> SuccessiveHalving | None:
        """Return this method's own ASHA, whose time is eligible epochs; None where it has none."""
        epochs, _ = self.count_epochs()
        if self.options.scheduler != "asha" or epochs < 2:
            return None
        return make_successive_halving(epochs)

    def sum_device_seconds(self, resources: Resources) -> float:
        """What all epochs took so far, in seconds of devices."""
        return sum(trial.seconds * trial.device_share(resources) for trial in self._all())

    # --- what is asked next ---

    def next_trial(self, whole_gpu: bool = False) -> Trial | None:
        """Return what to run now, or None while running trials decide it, or when all is done.

        Args:
            whole_gpu: Whether to take what did not fit into a share of a GPU, and only that.
        """
        self._drop_beaten()
        waiting = self._waiting(whole_gpu)
        if waiting is None and not self.is_search_done and not whole_gpu:
            waiting = self._propose()
        if waiting is None and self.is_search_done:
            self._begin_confirmation()
            waiting = self._waiting(whole_gpu)
        if waiting is not None:
            waiting.status = "running"
            waiting.recorded_epochs = min(len(folder.read_rows()) for folder in waiting.runs)
        return waiting

    def _waiting(self, whole_gpu: bool) -> Trial | None:
        every = (*self._contenders, *self.seeds.values())
        waiting = (t for t in every if t.status == "waiting" and bool(t.oom_reason) == whole_gpu)
        return next(waiting, None)

    def _all(self) -> list[Trial]:
        return [*self.trials.values(), *self.seeds.values()]

    @property
    def has_proposed_all(self) -> bool:
        """Whether the search has proposed all that it will."""
        return self.exhausted or len(self.trials) >= self.trial_budget

    @property
    def is_search_done(self) -> bool:
        """Whether every configuration of the search has ended."""
        return self.has_proposed_all and all(trial.is_finished for trial in self._contenders)

    def count_unfinished(self) -> int:
        """The number of trials and seeds that have not ended, proposed or not."""
        ended = sum(trial.is_finished for trial in self._all())
        return max(0, self.trial_budget + self.options.seeds - ended)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left: confirmed, or without a configuration worth it."""
        if not self.is_search_done:
            return False
        if self.select_hyperparameters() is None:
            return True
        return len(self.seeds) >= self.options.seeds and all(
            seed.is_finished for seed in self.seeds.values()
        )

    def _propose(self) -> Trial | None:
        if self.has_proposed_all or self.searcher is None:
            return None
        number = next(i for i in self._numbers if i not in self.trials)
        config = self.searcher.propose(number)
        if config is None:
            self.exhausted = True
            return None
        return self._enter(number, config)

    def _enter(self, number: int, config: Hyperparameters) -> Trial:
        """Take a configuration into the search."""
        trial = self.trials[number] = self._make_trial("search", number, config)
        self._contenders.append(trial)
        return trial

    def _drop_beaten(self) -> None:
        """Look no more at trials that have ended and not won, of which nothing changes."""
        won = self.select_winner()
        # A new list: progress reads the old one in a thread of its own.
        self._contenders = [t for t in self._contenders if t is won or not t.is_finished]

    def _key(self, config: Hyperparameters, seed: int) -> dict[str, Any]:
        key = self.space.resolved.make_key(config, seed, self.environment)
        return {**key.as_dict(), "digest": key.digest}

    def _make_trial(
        self, phase: str, number: int, config: Hyperparameters, begin: bool = True
    ) -> Trial:
        """Return a configuration, or a confirmation seed; ``begin`` makes its records."""
        count = self.options.search_seeds if phase == "search" else 1
        first = SEARCH_SEED if phase == "search" else number
        keys = [self._key(self.space.complete(config), first + i) for i in range(count)]
        folders = [self.records.open_run(key.pop("digest")) for key in keys]
        for key, folder in zip(keys, folders, strict=True) if begin else ():
            effective = describe_hyperparameters(self.space, config)
            commit = collect_provenance().commit
            folder.write_description(
                RunDescription(phase, number, config, effective, TrialKey.from_dict(key), commit)
            )
        return Trial(phase, number, config, folders, keys)

    def _begin_confirmation(self) -> None:
        """Once the search is done, prepare the confirmation seeds of the winner."""
        if not self.seeds:
            self.seeds = self._confirmation(begin=True)

    def list_confirmed_seeds(self) -> dict[int, Trial]:
        """Return the winner's seeds so far; while the search goes on, those recorded earlier."""
        found = self.seeds or self._confirmation(begin=False)
        return {
            number: seed for number, seed in sorted(found.items()) if self.seeds or seed.is_finished
        }

    def _confirmation(self, begin: bool) -> dict[int, Trial]:
        config = self.select_hyperparameters()
        found: dict[int, Trial] = {}
        for number in range(0 if config is None else self.options.seeds):
            found[number] = self._make_trial(
                "confirm", number, cast(Hyperparameters, config), begin
            )
            if found[number].restore_end(self.rule) and begin:
                found[number].clean_up()
        return found

    # --- what has come of it ---

    def report_epoch(self, trial: Trial, step: EpochReport) -> bool:
        """Take in an epoch; return whether the configuration goes on.

        Args:
            trial: The configuration.
            step: The epoch.

        Raises:
            StorageError: If its record could not be kept, again and again.
        """
        if trial.is_finished:
            return False
        if step.status == OUT_OF_MEMORY:
            trial.status, trial.oom_reason = "waiting", step.reason
            return False
        if step.status == STORAGE_FAILED:
            trial.failed_writes += 1
            if trial.failed_writes > RETRIES:
                raise StorageError(step.reason)
            trial.status = "waiting"
            return False
        if step.status != "failed":
            trial.add_epoch(step.rows, step.score)
        # The last epoch too goes on its rung; what was decided in an earlier session stays so.
        lags = self._asha_stops(trial, step.score)
        status = step.status
        if lags and not status and len(trial.scores) > trial.recorded_epochs:
            status = "pruned"
            self._write_ends(trial, status)
        if status:
            self._close(trial, status, step.reason)
        return not status

    def report_crash(self, trial: Trial, nodes_gone: int = 0) -> None:
        """Take note that a configuration's process died.

        Its record tells whether it had ended; else it is run again from there, unless its process
        dies again and again. Each node that was lost meanwhile excuses a death: a trial whose
        machine was taken away has not failed.

        Args:
            trial: The configuration.
            nodes_gone: How many nodes the cluster has lost so far.
        """
        if trial.is_finished:
            return
        if self._ended_on_record(trial):
            return
        trial.crashes += 1
        if trial.lost_nodes is None:
            trial.lost_nodes = nodes_gone
        own = trial.crashes - (nodes_gone - trial.lost_nodes)
        if own <= RETRIES and trial.crashes < MOST_DEATHS:
            trial.status = "waiting"
            return
        reason = f"its process died {trial.crashes} times"
        self._write_ends(trial, "failed", reason)
        self._close(trial, "failed", reason)

    def restore_ended_trials(self) -> None:
        """Take in what ended while a stop kept its process from saying so."""
        for trial in self._all():
            if not trial.is_finished:
                self._ended_on_record(trial)

    def _ended_on_record(self, trial: Trial) -> bool:
        """Return whether the records say that a configuration has ended, and take that in."""
        if not trial.restore_end(self.rule):
            return False
        trial.clean_up()
        self._replay_asha(trial)
        self._close(trial, trial.status, trial.reason)
        return True

    def _write_ends(self, trial: Trial, status: str, reason: str = "") -> None:
        """End runs from here, whose process will not; what they recorded stays."""
        for folder in trial.runs:
            folder.write_end(RunEnd(status, reason, folder.read_rows()))

    def _asha_stops(self, trial: Trial, score: Score | None) -> bool:
        if self.pruner is None or trial.phase != "search" or score is None or trial.best is None:
            return False
        return self.pruner.report(trial.number, trial.eligible_epochs, trial.best.value)

    def _close(self, trial: Trial, status: str, reason: str) -> None:
        again = describe_whole_gpu_retry(trial.oom_reason) if trial.oom_reason else ""
        trial.status, trial.reason = status, reason or again
        if trial.phase == "search" and self.searcher is not None:
            self.searcher.tell(trial.number, trial.scores, status)

    # --- what won ---

    def select_winner(self) -> Trial | None:
        """The best configuration of the search; None without one, or where none was searched."""
        ended = [t for t in list(self._contenders) if t.is_finished and t.status != "failed"]
        number = selection.select_winner((trial.number, trial.best) for trial in ended)
        return None if number is None else self.trials[number]

    def select_hyperparameters(self) -> Hyperparameters | None:
        """The configuration that is confirmed."""
        if self.searcher is None:
            return self.space.published()
        won = self.select_winner()
        return None if won is None else won.hyperparameters

    # --- what an earlier session left ---

    def _recorded_trials(self) -> dict[int, Hyperparameters]:
        """Return the configurations of the search that have a record, by number."""
        found = {}
        for folder in self.records.list_runs():
            description = folder.read_description()
            if description is not None and description.phase == "search":
                found[description.number] = dict(description.hyperparameters)
        return dict(sorted(found.items()))

    def _replay(self, earlier: Mapping[int, Hyperparameters]) -> None:
        """Take over an earlier session's trials: the finished ones with all that was learned."""
        for number, config in earlier.items():
            if self.searcher is None:
                break
            trial = self._enter(number, config)
            self.searcher.adopt(number, config)
            self._ended_on_record(trial)
        self.trial_budget = max(self.trial_budget, len(self.trials))
        self._drop_beaten()

    def _replay_asha(self, trial: Trial) -> None:
        """Put a finished trial's values on ASHA's rungs; those that are there already stay."""
        if self.pruner is None or trial.phase != "search":
            return
        best: float | None = None
        eligible = 0
        for score in trial.scores:
            if score is not None:
                eligible += 1
                best = score.value if best is None else max(best, score.value)
                self.pruner.report(trial.number, eligible, best)
