"""The first steps of a run, measured: their time, and what they take of a GPU."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from common.errors import UserError
from core.training.loader import text_lengths
from core.training.run import Run
from core.training.steps import MODEL_ERRORS, BatchTooLarge, Trainer, check_model_fits_data

WARM = 5  # steps left out: what comes first pays for what is made once
TIMED, PROFILED = 20, 10  # steps of a stage that tell its use of a GPU
PATIENCE = 20.0  # seconds for timed steps


@dataclass(frozen=True)
class Usage:
    """What a run takes of its device.

    Args:
        device: The GPU's name, or ``cpu``, of which nothing is measured but the time.
        seconds: Seconds of a step; of several stages, the longest.
        memory: Bytes of the GPU's memory at the peak: what torch reserves, and beside it the CUDA
            context.
        total: Bytes that the GPU has.
        busy: Share of the time in which kernels run; None where that could not be measured.
        fits: Whether the memory of a whole GPU was enough.
    """

    device: str
    seconds: float = 0.0
    memory: int = 0
    total: int = 0
    busy: float | None = None
    fits: bool = True


def first_steps(run: Run, stage: int, most: int) -> Iterator[Trainer]:
    """Take the first steps of a stage, one each time; of texts, the longest come first.

    Args:
        run: The run, which is good for nothing but measuring afterwards.
        stage: The stage, from 0, that the run is in.
        most: How many steps, if an epoch has so many.
    """
    trainer, parts = run.prepare_epoch(stage, 0)
    lengths = text_lengths(run.data["train"])
    if lengths is not None:
        rows = torch.cat(parts)
        longest = lengths[rows].argsort(descending=True)[: len(parts[0])]
        parts = [rows[longest], *parts[1:]]
    run.model.train()
    for part, batch in run.loader.load_batches("train", parts[:most]):
        trainer.step(part, batch)
        yield trainer


def seconds_of_a_step(run: Run, stage: int, most: int) -> tuple[float, int]:
    """Return the seconds of a step and how many steps were taken, at most ``most``."""
    taken, start = 0, time.perf_counter()
    for trainer in first_steps(run, stage, most):
        taken += 1
        if taken == WARM:
            trainer.means()  # waits for the device
            start = time.perf_counter()
        elif time.perf_counter() - start > PATIENCE:
            break
    trainer.means()
    return (time.perf_counter() - start) / (taken - WARM if taken > WARM else taken), taken


def usage(run: Run) -> Usage:
    """Return what a fresh run takes of its device: steps of each stage, a batch of validation.

    The process should have computed nothing else, and the device should be its own.

    Raises:
        UserError: If the model cannot take the benchmark's examples.
    """
    try:
        return _usage(run)
    except (torch.OutOfMemoryError, BatchTooLarge):
        return Usage(run.key.environment.device_class, fits=False)
    except UserError:
        raise
    except MODEL_ERRORS:
        check_model_fits_data(run)
        raise


def _usage(run: Run) -> Usage:
    cuda = run.device.type == "cuda"
    seconds: list[float] = []
    kernels: list[float] = []
    for index, stage in enumerate(run.stages):
        if index:
            run.begin_stage(index)
        if not stage.splits_validation:  # others fit a layer by themselves, without steps
            seconds.append(seconds_of_a_step(run, index, WARM + TIMED)[0])
            kernels.append(_kernel_seconds(run, index) / seconds[-1] if cuda else 0.0)
    run.evaluate("validation", most=1)
    if not cuda:
        return Usage(run.key.environment.device_class, max(seconds))
    free, total = torch.cuda.mem_get_info()
    context = max(0, total - free - torch.cuda.memory_reserved())
    return Usage(
        device=run.key.environment.device_class,
        seconds=max(seconds),
        memory=torch.cuda.max_memory_reserved() + context,
        total=total,
        busy=min(1.0, max(kernels)) if all(kernels) else None,
    )


def _kernel_seconds(run: Run, stage: int) -> float:
    """Return for how long kernels run in a step; 0 where the profiler sees none."""
    taken = 0
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in first_steps(run, stage, PROFILED):
            taken += 1
        torch.cuda.synchronize()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA" and not event.is_user_annotation
    ]
    return covered(spans) / 1e6 / max(1, taken)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of what spans of a line cover together, each ``(start, end)``."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
