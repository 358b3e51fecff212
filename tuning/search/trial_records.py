"""Creates trials with their keys and records, and finds those of earlier sessions."""

from common.hyperparameters import Hyperparameters
from core.environment import Environment
from tuning.records.method_records import MethodRecords
from tuning.records.provenance import collect_provenance
from tuning.records.run_data import Phase, RunDescription
from tuning.search.space import Space, describe_hyperparameters
from tuning.search.trial import Trial

SEARCH_SEED = 1000  # training seeds of a search count from here, confirmation seeds from 0


class TrialRecords:
    """The trials in the records of one method.

    Args:
        space: The search space.
        environment: Where trials compute.
        records: The method's records.
        search_seeds: Training seeds of a trial of the search.
    """

    def __init__(
        self, space: Space, environment: Environment, records: MethodRecords, search_seeds: int
    ) -> None:
        self.space = space
        self.environment = environment
        self.records = records
        self.search_seeds = search_seeds
        self.further_seeds: dict[int, set[int]] = {}  # on record, of each finalist
        self._described: set[str] = set()  # digests of the runs that earlier sessions described

    def create_trial(
        self, phase: Phase, number: int, values: Hyperparameters, seed: int | None = None
    ) -> Trial:
        """Return a new trial, and describe it in the records.

        Args:
            phase: Its role.
            number: The trial's number, or the confirmation seed.
            values: Its hyperparameters, without fixed values.
            seed: The training seed of a finalist.
        """
        searches = phase == Phase.SEARCH
        single = number if seed is None else seed
        seeds = range(SEARCH_SEED, SEARCH_SEED + self.search_seeds) if searches else (single,)
        complete = self.space.complete(values)
        keys = [self.space.resolved.make_key(complete, seed, self.environment) for seed in seeds]
        runs = [self.records.open_run(key.digest) for key in keys]
        effective = describe_hyperparameters(self.space, values)
        commit = collect_provenance().commit
        for key, run in zip(keys, runs, strict=True):
            if run.name not in self._described:
                run.write_description(RunDescription(phase, number, values, effective, key, commit))
        is_default = searches and values == self.space.default_proposal
        return Trial(phase, number, values, runs, keys, is_default=is_default)

    def read_proposals(self) -> dict[int, Hyperparameters]:
        """Return the hyperparameters of recorded trials of the search, by number."""
        proposals = {}
        for run, description in self.records.read_runs():
            self._described.add(run.name)
            if description.phase == Phase.SEARCH:
                proposals[description.number] = dict(description.hyperparameters)
            elif description.phase == Phase.FINALIST:
                self.further_seeds.setdefault(description.number, set()).add(description.key.seed)
        return dict(sorted(proposals.items()))
