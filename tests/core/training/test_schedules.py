"""Schedules, warm-up and decay as System 1's code has them."""

import math
from typing import Any

import pytest
import torch

from common.errors import ValidationErrors
from core.recipe.recipe import EpochCounts
from core.training.run import Run
from tests.core.recipe.test_resolved_method import resolve
from tests.core.training.test_run import rows, start


def read_rates(run: Run, steps: int) -> list[float]:
    """Return the learning rates of the first steps of the current stage."""
    found = []
    for _ in range(steps):
        found.append(run.stage_state.lr)
        run.stage_state.optimizer.step()
        run.stage_state.step_batch_schedule()
    return found


def compute_linear(step: int, warmup: float, total: int) -> float:
    """Return the share of the full rate, as the published code's library computes it."""
    if step < warmup:
        return step / max(1, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def compute_cosine(step: int, warmup: int, total: int) -> float:
    """Likewise for ``cosine_with_restarts`` with one cycle."""
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.0 if progress >= 1 else 0.5 * (1 + math.cos(math.pi * (progress % 1)))


@pytest.mark.deviation("warmup")
@pytest.mark.parametrize("batch_size", [30, 70])
def test_warm_up_may_be_given_in_steps(batch_size: int) -> None:
    run = start(
        "erm", "colored_digits", lr=1.0, batch_size=batch_size, epochs=4,
        schedule="cosine_with_restarts", warmup_steps=20,
    )  # fmt: skip
    total = 4 * run.stage_state.steps_per_epoch
    expected = [compute_cosine(step, 20, total) for step in range(total)]
    assert read_rates(run, total) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "polynomial"])
def test_every_schedule_of_system_1_reaches_a_run(schedule: str) -> None:
    run = start("erm", "colored_digits", lr=1.0, epochs=2, schedule=schedule, warmup_steps=3)
    total = 2 * run.stage_state.steps_per_epoch
    half = {"cosine": 0.5, "polynomial": 0.5}[schedule]
    rates = read_rates(run, total + 1)
    assert rates[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    middle = 3 + (total - 3) / 2
    assert rates[math.floor(middle)] >= half - 1e-6 >= rates[math.ceil(middle)] - 2e-6
    assert rates[-1] <= 1e-7


@pytest.mark.deviation("stage-schedule")
def test_jtt_runs_on_the_schedule_of_the_whole_run_in_both_stages() -> None:
    """Rate 90% after T = 2 of 20 epochs; the second stage starts again, and ends before its end."""
    config: dict[str, Any] = {
        "lr": 0.05, "epochs": 20, "epochs_cover": "run", "schedule": "linear", "T": 2, "up": 6,
    }  # fmt: skip
    run = start("jtt", "colored_digits", **config)
    per_epoch = run.stage_state.steps_per_epoch
    found = list(rows(run))
    assert len(found) == 20 - 1
    assert [row.eligible for row in found] == [False] * 2 + [True] * 17
    longer = found[-1].steps
    assert longer > per_epoch
    starts = [0, per_epoch, *(longer * epoch for epoch in range(17))]
    expected = [0.05 * compute_linear(step, 0, 20 * per_epoch) for step in starts]
    assert [row.lr for row in found] == pytest.approx(expected)
    assert found[1].lr == pytest.approx(0.05 * 0.95)
    assert expected[-1] == 0


@pytest.mark.deviation("jtt-epochs")
def test_epochs_of_a_run_are_counted_before_it_starts() -> None:
    jtt = resolve("jtt")
    cover: dict[str, Any] = {"epochs_cover": "run", "epochs": 50, "T": 5}
    assert jtt.count_epochs(cover) == EpochCounts(44, 49)
    assert resolve("tapt").count_epochs({**cover, "pretrain_epochs": 10, "T": 5}) == EpochCounts(
        40, 50
    )
    assert resolve("erm").count_epochs({**cover, "T": 5}) == EpochCounts(50, 50)
    with pytest.raises(ValidationErrors, match="epochs: received 6, expected more than 6"):
        start("jtt", "colored_digits", epochs=6, epochs_cover="run", T=5)
    with pytest.raises(ValidationErrors, match="received 6, expected more than 6"):
        jtt.count_epochs({**cover, "epochs": 6})


@pytest.mark.parametrize("name", ["warmup", "warmup_steps"])
def test_a_schedule_per_epoch_has_no_warm_up(name: str) -> None:
    with pytest.raises(ValidationErrors, match=f"{name}: received 1.*expected 0"):
        start("erm", "colored_digits", schedule="step", **{name: 1})


def test_one_warm_up_and_a_rate_above_the_schedules_end_are_required() -> None:
    with pytest.raises(ValidationErrors, match="set one of them to 0"):
        start("erm", "colored_digits", warmup=0.1, warmup_steps=5)
    with pytest.raises(ValidationErrors, match="lr: received 1e-08, expected more than 1e-07"):
        start("erm", "colored_digits", lr=1e-8, schedule="polynomial")


@pytest.mark.deviation("weight-decay")
def test_decay_may_be_of_biases_and_norms_as_published() -> None:
    run = start("erm", "colored_digits", weight_decay=0.1, decay_target="vectors")
    groups = run.stage_state.optimizer.param_groups
    decayed = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {decayed[id(p)] for p in run.model.parameters() if p.ndim > 1} == {0.0}
    assert {decayed[id(p)] for p in run.model.parameters() if p.ndim <= 1} == {0.1}
    assert isinstance(run.stage_state.optimizer, torch.optim.Optimizer)
