"""Measure the first steps of a run: their time and their use of a GPU."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch.profiler import ProfilerActivity, profile

from common.errors import UserError
from core.batch import Batch
from core.training.context import EpochPosition
from core.training.evaluation import MODEL_ERRORS, check_model_fits_data
from core.training.loader import get_text_lengths
from core.training.run import Run
from core.training.steps import BatchTooLarge, Trainer

WARMUP_STEPS = 5  # left out of the mean: the first ones pay for caches and compilation
TIMED_STEPS, PROFILED_STEPS = 20, 10  # per stage
MAX_TIMED_SECONDS = 20.0
SMALL_BATCH = 2  # examples of a first step, which says how many examples may be timed


@dataclass(frozen=True)
class Usage:
    """The use that a run makes of its device.

    Args:
        device: The GPU's name, or ``cpu``, of which only the time is measured.
        seconds: Seconds per step; of several stages, the longest.
        memory: Peak of the memory that torch reserves on the GPU, in bytes. The CUDA context is
            not part of it: the driver counts the memory of all processes together.
        total: Bytes that the GPU has.
        busy: Share of the time in which kernels run; None if it could not be measured.
        fits: Whether the memory of a whole GPU was enough.
    """

    device: str
    seconds: float = 0.0
    memory: int = 0
    total: int = 0
    busy: float | None = None
    fits: bool = True


def take_first_steps(run: Run, stage: int, steps: int) -> Iterator[Trainer]:
    """Take the first steps of a stage, one per iteration; of texts, the longest come first.

    Args:
        run: The run, which can only be measured afterwards.
        stage: Number of the stage that the run is in, from 0.
        steps: Number of steps; where the stage's first epoch has fewer, it is repeated.
    """
    trainer, batches = run.prepare_epoch(EpochPosition(stage, 0))
    lengths = get_text_lengths(run.context.train)
    taken = list(islice(cycle(batches), steps))
    if lengths is not None:
        rows = torch.cat(batches)
        longest = lengths[rows].argsort(descending=True)[: len(batches[0])]
        taken[0] = rows[longest]
    return _take_steps(run, trainer, taken)


def _take_steps(run: Run, trainer: Trainer, batches: Iterable[torch.Tensor]) -> Iterator[Trainer]:
    run.model.train()
    for rows, batch in run.context.loader.load_batches("train", batches):
        trainer.take_step(rows, batch)
        yield trainer


def _read_clock(run: Run) -> float:
    """Return the time in seconds once the device has done all its work."""
    if run.context.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _time_steps(
    run: Run, steps: Iterable[object], warmup_steps: int, max_seconds: float
) -> tuple[float, int]:
    """Return the seconds of a step, and how many steps were taken.

    Args:
        run: The run that takes the steps.
        steps: An iteration per step; at least one.
        warmup_steps: Steps that are left out of the mean where more follow.
        max_seconds: The time after which no step begins, of the warm-up and of the rest.
    """
    taken, left_out = 0, 0
    start = warm = _read_clock(run)
    for _ in steps:
        if taken == warmup_steps:
            left_out, start = warmup_steps, warm
        taken += 1
        if taken == warmup_steps:
            warm = _read_clock(run)
        if time.perf_counter() - start > max_seconds:
            break
    return (_read_clock(run) - start) / (taken - left_out), taken


def measure_step_seconds(run: Run, stage: int, max_steps: int) -> tuple[float, int]:
    """Return the seconds of a step, and how many steps were taken, at most ``max_steps``.

    Fewer are taken where they last longer than :data:`MAX_TIMED_SECONDS`.
    """
    steps = take_first_steps(run, stage, max_steps)
    return _time_steps(run, steps, WARMUP_STEPS, MAX_TIMED_SECONDS)


def measure_stage_seconds(run: Run, max_seconds: float) -> tuple[float, ...]:
    """Return the seconds of an epoch of each stage, extrapolated from a few steps.

    Where a whole batch takes too long, steps of a part of it are timed. A stage without steps takes
    the time of a pass over the validation split. The run can only be measured afterwards.

    Args:
        run: A new run.
        max_seconds: Time for all stages, exceeded only by steps of parts of a batch.
    """
    stages = run.context.stages
    validation = len(run.context.validation)
    found: list[float] = []
    for index, stage in enumerate(stages):
        if index:
            run.begin_stage(index)
        step, example = _measure_step_and_example(run, index, max_seconds / len(stages))
        steps = 0 if stage.splits_validation else run.steps_per_epoch
        found.append(step * steps + example * validation)
    return tuple(found)


def _measure_step_and_example(run: Run, stage: int, max_seconds: float) -> tuple[float, float]:
    """Return the seconds of a step, and of the evaluation of an example."""
    trainer, batches = run.prepare_epoch(EpochPosition(stage, 0))
    whole, small = len(batches[0]), batches[0][:SMALL_BATCH]

    def time_batches(taken: Sequence[torch.Tensor], limit: float) -> float:
        return _time_steps(run, _take_steps(run, trainer, taken), 1, limit)[0]

    first = time_batches([small] * 2, max_seconds / 4)
    step = first * whole / len(small)
    if step * 2 <= max_seconds:
        count = min(TIMED_STEPS, int(max_seconds / step))
        step = time_batches(list(islice(cycle(batches), count)), max_seconds)
    elif whole > len(small) and first * 4 <= max_seconds:
        larger = batches[0][: max(2 * len(small), int(len(small) * max_seconds / 4 / first))]
        second = time_batches([larger] * 2, max_seconds / 2)
        slope = (second - first) / (len(larger) - len(small))
        step = second + min(max(0.0, slope), second / len(larger)) * (whole - len(larger))
    batch = run.context.loader.load_batch("train", small)
    evaluation = _time_steps(run, _evaluate_batches(run, [batch] * 2), 1, max_seconds / 4)[0]
    return step, evaluation / len(small)


def _evaluate_batches(run: Run, batches: Iterable[Batch]) -> Iterator[None]:
    """Compute the outputs of batches as in evaluation, one per iteration."""
    run.model.eval()
    for batch in batches:
        with torch.no_grad(), run.context.environment.autocast():
            image = run.model.image
            run.model(run.context.augmentation.transform_evaluation(batch.inputs, image))
        yield


def measure_usage(run: Run) -> Usage:
    """Measure a new run: steps of each stage, and one batch of validation.

    The process should have computed nothing else, and the device should be its own.

    Raises:
        UserError: If the model cannot take the benchmark's examples.
    """
    try:
        return _measure_usage(run)
    except (torch.OutOfMemoryError, BatchTooLarge):
        return Usage(run.key.environment.device_class, fits=False)
    except UserError:
        raise
    except MODEL_ERRORS:
        check_model_fits_data(run.context, run.model)
        raise


def _measure_usage(run: Run) -> Usage:
    cuda = run.context.device.type == "cuda"
    seconds: list[float] = []
    kernels: list[float] = []
    for index, stage in enumerate(run.context.stages):
        if index:
            run.begin_stage(index)
        if not stage.splits_validation:  # others fit a layer without steps
            seconds.append(measure_step_seconds(run, index, WARMUP_STEPS + TIMED_STEPS)[0])
            kernels.append(_measure_kernel_seconds(run, index) / seconds[-1] if cuda else 0.0)
    run.evaluate_split("validation", max_batches=1)
    if not cuda:
        return Usage(run.key.environment.device_class, max(seconds, default=0.0))
    return Usage(
        device=run.key.environment.device_class,
        seconds=max(seconds, default=0.0),
        memory=torch.cuda.max_memory_reserved(),
        total=torch.cuda.mem_get_info()[1],
        busy=min(1.0, max(kernels)) if kernels and all(kernels) else None,
    )


def _measure_kernel_seconds(run: Run, stage: int) -> float:
    """Return the seconds in which kernels run per step; 0 if the profiler sees none."""
    taken = 0
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in take_first_steps(run, stage, PROFILED_STEPS):
            taken += 1
        torch.cuda.synchronize()
    intervals = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA" and not event.is_user_annotation
    ]
    return covered_length(intervals) / 1e6 / max(1, taken)


def covered_length(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals ``(start, end)``."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
