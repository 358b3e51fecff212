"""Creates trials with their keys and records, and finds those of earlier sessions."""

from common.hyperparameters import Hyperparameters
from core.environment import Environment
from tuning.records.method_records import MethodRecords
from tuning.records.provenance import collect_provenance
from tuning.records.run_data import RunDescription
from tuning.search.space import Space, describe_hyperparameters
from tuning.search.trial import Phase, Trial

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

    def create_trial(
        self, phase: Phase, number: int, values: Hyperparameters, write: bool = True
    ) -> Trial:
        """Return a new trial.

        Args:
            phase: ``search`` or ``confirm``.
            number: The trial's number, or the confirmation seed.
            values: Its hyperparameters, without fixed values.
            write: Whether to describe it in the records.
        """
        searches = phase == "search"
        seeds = range(SEARCH_SEED, SEARCH_SEED + self.search_seeds) if searches else (number,)
        complete = self.space.complete(values)
        keys = [self.space.resolved.make_key(complete, seed, self.environment) for seed in seeds]
        runs = [self.records.open_run(key.digest) for key in keys]
        if write:
            effective = describe_hyperparameters(self.space, values)
            commit = collect_provenance().commit
            for key, run in zip(keys, runs, strict=True):
                run.write_description(RunDescription(phase, number, values, effective, key, commit))
        return Trial(phase, number, values, runs, keys)

    def find_proposals(self) -> dict[int, Hyperparameters]:
        """Return the hyperparameters of recorded trials of the search, by number."""
        found = {}
        for run in self.records.list_runs():
            description = run.read_description()
            if description is not None and description.phase == "search":
                found[description.number] = dict(description.hyperparameters)
        return dict(sorted(found.items()))
