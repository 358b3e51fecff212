"""The optimization steps of a trial's epochs, stage by stage, before it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from core.make_run import AnyRun
from core.recipe.component import make_stage
from core.recipe.trial_key import TrialKey
from core.stages.base import Stage
from core.training.context import make_context
from core.training.run import Run
from core.training.stage_state import count_stage_steps
from datasets.benchmark import Benchmark
from datasets.environments.config import ReinforcementConfig
from datasets.groups.table import TableBenchmark
from datasets.training_config import JOINED_SPLIT
from tuning.search.space import Space

SUBSAMPLED = "subsampled_"  # samplers of a subset of the training examples
AT_LEAST, AT_MOST = "at least ", "at most "
# The reason for which a number of steps is a bound.
BOUND_REASONS = {
    AT_LEAST: "a stage repeats the examples that the stage before finds wrong, which are counted "
    "when it ends",
    AT_MOST: "a subset as large as the smallest group or class allows, whose size is not in the "
    "data card",
}


@dataclass(frozen=True)
class EpochSteps:
    """The steps of an epoch.

    Args:
        by_batch_size: The steps of an epoch of each stage, by batch size.
        bounds: For each stage, a key of :data:`BOUND_REASONS`; empty where the steps are exact.
    """

    by_batch_size: Mapping[int, tuple[int, ...]]
    bounds: tuple[str, ...]

    @property
    def mean(self) -> float:
        """The mean steps of an epoch of the first stage, over batch sizes."""
        return fmean(steps[0] for steps in self.by_batch_size.values())

    def __str__(self) -> str:
        """Return the lowest and highest steps of each stage; of equal stages once."""
        texts = []
        for steps, bound in zip(
            zip(*self.by_batch_size.values(), strict=True), self.bounds, strict=True
        ):
            ends = dict.fromkeys((min(steps), max(steps)))
            texts.append(f"{bound}{'-'.join(map(str, ends))}")
        return ", then ".join(dict.fromkeys(texts))


def count_epoch_steps(space: Space, search: str, key: TrialKey, run: AnyRun | None) -> EpochSteps:
    """Return the steps of an epoch for each batch size that is known beforehand.

    Args:
        space: The search space of the method.
        search: The ``--search`` option; of a search that draws, the default batch size is known.
        key: The key of a trial with the values that all trials have.
        run: The run of that key; None where the data are absent, and the data card counts.
    """
    config = key.training_config
    if isinstance(config, ReinforcementConfig):
        return EpochSteps({config.batch_size: (config.epoch_steps,)}, ("",))
    assert run is None or isinstance(run, Run)
    values = space.find_common_values(search)
    found: dict[int, tuple[int, ...]] = {}
    for size in list_batch_sizes(space, search):
        of_size = space.resolved.make_key({**values, "batch_size": size}, 0, key.environment)
        if run is None:
            found[size] = _count_by_card(space.benchmark, of_size)
        else:
            found[size] = count_stage_steps(make_context(of_size, space.benchmark), run.model)
    stages = [make_stage(part) for part in key.recipe.stages]
    changes = [type(s).compute_sample_counts is not Stage.compute_sample_counts for s in stages]
    is_bound = run is None and key.recipe.sampler.startswith(SUBSAMPLED)
    known = bool(_count_subsample(space.benchmark, key.recipe.sampler))
    first = AT_MOST if is_bound and not known else ""
    return EpochSteps(
        found,
        tuple(AT_LEAST if any(changes[:index]) else first for index in range(len(stages))),
    )


def list_batch_sizes(space: Space, search: str) -> tuple[int, ...]:
    """Return the batch sizes that are known before a search; of one that draws, the default."""
    points = space.grid() if search == "grid" else [space.find_common_values(search)]
    completed = [space.resolved.complete_values(space.complete(point)) for point in points]
    return tuple(sorted({int(point["batch_size"]) for point in completed}))


def _count_by_card(benchmark: Benchmark, key: TrialKey) -> tuple[int, ...]:
    """Return the steps of each stage's epochs by the sizes of the data card."""
    config, sizes = key.training_config, benchmark.published_sizes
    joined = sizes["validation"] if config.training_split == JOINED_SPLIT else 0
    examples = _count_subsample(benchmark, key.recipe.sampler) or sizes["train"] + joined
    steps = -(-examples // config.batch_size)
    stages = [make_stage(part) for part in key.recipe.stages]
    return tuple(0 if stage.splits_validation else steps for stage in stages)


def _count_subsample(benchmark: Benchmark, sampler: str) -> int:
    """Return the examples of a subset with groups or classes of equal sizes; 0 where unknown."""
    if not sampler.startswith(SUBSAMPLED) or not isinstance(benchmark, TableBenchmark):
        return 0
    counts = benchmark.published_counts.get("train", ())
    if sampler == "subsampled_classes":  # a class has a group for each attribute
        size = len(benchmark.train_groups.attributes)
        counts = tuple(sum(counts[start : start + size]) for start in range(0, len(counts), size))
    present = [count for count in counts if count]
    return min(present, default=0) * len(present)
