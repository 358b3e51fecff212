"""What a run takes of its device: the steps that are measured, and what is made of spans."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

import datasets
from core.batch import Batch
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.profiling import (
    WARMUP_STEPS,
    Usage,
    covered_length,
    measure_stage_seconds,
    measure_step_seconds,
    measure_usage,
    take_first_steps,
)
from core.training.run import Run
from core.training.steps import Trainer

SPANS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1]))
)


def fresh(method: str, gpu: bool = False, dataset: str = "colored_digits", **config: int) -> Run:
    benchmark = datasets.load_benchmark(dataset)
    return Run(
        resolve_method(load_method(method), benchmark).make_key(config, 0, detect_environment(gpu)),
        benchmark,
    )


@given(SPANS)
def test_intervals_cover_the_points_in_any_of_them(spans: list[tuple[int, int]]) -> None:
    slow = sum(any(start <= x < end for start, end in spans) for x in range(70))
    assert covered_length(spans) == slow


@pytest.mark.parametrize("method", ["erm", "jtt", "dfr", "fairgrad_mt_l1"])
def test_every_stage_is_measured_on_a_cpu_too(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.training.profiling.TIMED_STEPS", 3)
    run = fresh(method)
    begun = [0]
    begin = run.begin_stage

    def begin_noted(index: int) -> None:
        begun.append(index)
        begin(index)

    monkeypatch.setattr(run, "begin_stage", begin_noted)
    found = measure_usage(run)
    assert begun == list(range(len(run.context.stages)))
    assert found.seconds > 0
    assert found == Usage("cpu", found.seconds)


def test_the_epoch_is_repeated_where_it_has_fewer_steps() -> None:
    run = fresh("erm", batch_size=1024)
    assert run.stage_state.steps_per_epoch < WARMUP_STEPS
    assert measure_step_seconds(run, 0, WARMUP_STEPS + 2)[1] == WARMUP_STEPS + 2


def test_only_the_first_batch_of_texts_is_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    run = fresh("erm", batch_size=64)
    steps = run.stage_state.steps_per_epoch
    lengths = torch.randperm(len(run.context.train))
    monkeypatch.setattr("core.training.profiling.get_text_lengths", lambda split: lengths)
    taken: list[torch.Tensor] = []

    def take_step(trainer: Trainer, rows: torch.Tensor, batch: object) -> None:
        taken.append(lengths[rows])

    monkeypatch.setattr(Trainer, "take_step", take_step)
    assert len(list(take_first_steps(run, 0, steps + 1))) == steps + 1
    assert sorted(taken[0].tolist()) == list(range(len(lengths) - 64, len(lengths)))
    assert len(torch.cat(taken[1:]).unique()) == len(lengths)


def test_measured_steps_are_those_of_training() -> None:
    """On images, where no batch is put in front: the weights move as in the first epoch."""
    measured, trained = fresh("erm"), fresh("erm")
    *_, last = take_first_steps(measured, 0, measured.stage_state.steps_per_epoch)
    assert last.mean_losses() == trained.train_epoch().losses
    for one, other in zip(measured.model.parameters(), trained.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for memory that runs out, first where batches must stay whole."""

    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    run = fresh("fairgrad_groups")
    monkeypatch.setattr(run.model, "forward", too_large)
    assert measure_usage(run) == Usage("cpu", fits=False)


def test_the_profiler_has_what_is_read_of_it() -> None:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        torch.ones(9).sum()
    events = profiler.events()
    assert events
    for event in events:
        assert event.device_type.name == "CPU"
        assert event.is_user_annotation is False
        assert event.time_range.end >= event.time_range.start


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_memory_and_time_are_measured() -> None:
    small, large = (measure_usage(fresh("erm", gpu=True, batch_size=size)) for size in (16, 1024))
    for found in (small, large):
        assert found.fits
        assert 0 < found.memory < found.total
        assert found.busy is not None
        assert 0 < found.busy <= 1
        assert found.memory <= torch.cuda.max_memory_reserved()  # of this process alone
    assert large.memory >= small.memory


@pytest.mark.parametrize("steps", [1, WARMUP_STEPS, WARMUP_STEPS + 1])
def test_any_number_of_steps_is_timed(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that a step moves by one second."""
    run = fresh("erm", epochs=1)
    now = [0.0]
    monkeypatch.setattr("core.training.profiling.time.perf_counter", lambda: now[0])
    take = Trainer.take_step

    def slow(trainer: Trainer, rows: torch.Tensor, batch: Batch) -> None:
        take(trainer, rows, batch)
        now[0] += 1

    monkeypatch.setattr(Trainer, "take_step", slow)
    assert measure_step_seconds(run, 0, steps) == (1.0, steps)


@pytest.mark.parametrize("max_seconds", [4.0, 1000.0])
def test_epochs_are_extrapolated_stage_by_stage(
    max_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a step moves by a constant and by its examples.

    The first step of each size takes longer, as if it paid for memory and compilation.
    """
    run = fresh("dfr")
    now, taken = [0.0], [0]
    sizes: set[int] = set()
    monkeypatch.setattr("core.training.profiling.time.perf_counter", lambda: now[0])
    take = Trainer.take_step

    def slow(trainer: Trainer, rows: torch.Tensor, batch: Batch) -> None:
        take(trainer, rows, batch)
        now[0] += 0.1 + 0.1 * len(rows) + (0.1 if len(rows) not in sizes else 0.0)
        sizes.add(len(rows))
        taken[0] += 1

    monkeypatch.setattr(Trainer, "take_step", slow)
    size, steps = run.key.training_config.batch_size, run.steps_per_epoch
    trained, refitted = measure_stage_seconds(run, max_seconds)
    assert trained == pytest.approx(steps * (0.1 + 0.1 * size))
    assert refitted == 0  # by this clock, evaluation takes no time
    assert taken[0] < 2 * steps
