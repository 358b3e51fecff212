"""Every method on every embedded benchmark: trains, reports, checkpoints, resumes exactly."""

import copy
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import datasets
from common.errors import ValidationErrors
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.recipe.component import component_classes
from core.recipe.method_files import list_methods, load_method
from core.recipe.method_parser import parse_method
from core.recipe.resolved_method import resolve_method
from core.recipe.trial_key import TrialKey
from core.training.context import EpochPosition
from core.training.epoch_row import EpochRow
from core.training.run import NotFinite, Run
from core.training.run_state import RunState
from core.training.stage_state import draw_rows
from core.weighting.methods.dro import GroupDRO
from datasets.groups.base import GroupBenchmark, GroupMeter
from tests.conftest import EMBEDDED, fitting

METRICS = {
    "worst_group_accuracy", "average_accuracy", "worst_class_accuracy", "class_accuracy",
    "training_weighted_accuracy", "group_accuracy", "group_count",
}  # fmt: skip
EVERY = fitting(list_methods(), EMBEDDED)
SMALL: dict[str, Hyperparameters] = {"jtt": {"T": 1, "up": 4}, "tapt": {"pretrain_epochs": 1}}


def start(method: str, dataset: str, seed: int = 0, **config: Any) -> Run:
    benchmark = datasets.load_benchmark(dataset)
    small: Hyperparameters = {} if isinstance(benchmark, GroupBenchmark) else {"batch_size": 1024}
    given = {**small, **SMALL.get(method, {}), **config}
    return Run(
        resolve_method(load_method(method), benchmark).make_key(given, seed, detect_environment()),
        benchmark,
    )


def promised(run: Run) -> set[str]:
    """The metrics that a row must have."""
    benchmark = run.benchmark
    return METRICS if isinstance(benchmark, GroupBenchmark) else set(benchmark.higher_is_better)


def rows(run: Run) -> Iterator[EpochRow]:
    """Train to the end; yield the rows without what the clock says."""
    while run.epochs_done < run.total_epochs:
        yield replace(run.train_epoch(), seconds=0.0)


@pytest.mark.parametrize(("method", "dataset"), EVERY)
def test_reports_every_promised_metric_and_resumes_exactly(method: str, dataset: str) -> None:
    run = start(method, dataset, epochs=2)
    found, states = [], []
    for row in rows(run):
        found.append(row)
        states.append(io.BytesIO())
        torch.save(run.make_state().as_dict(), states[-1])
    assert len(found) == run.total_epochs
    assert [row.epoch for row in found] == list(range(1, len(found) + 1))
    stages = run.key.list_stage_epochs()
    eligible = sum(stage.epochs for stage in stages if stage.is_eligible)
    assert sum(row.eligible for row in found) == eligible > 0
    for row in found:
        assert set(row.validation) >= promised(run)
        assert set(row.losses) <= set(run.context.losses.names)
        assert EpochRow.from_dict(json.loads(json.dumps(row.as_dict()))) == row
    assert {name for row in found for name in row.losses} == set(run.context.losses.names)
    assert [row.final for row in found] == [False] * (len(found) - 1) + [True]
    assert set(run.evaluate_split("test").compute_metrics()) >= promised(run)
    for done, file in enumerate(states[:-1], 1):
        file.seek(0)
        second = start(method, dataset, epochs=2)
        second.load_state(RunState(**torch.load(file, weights_only=True)))
        assert list(rows(second)) == found[done:]


@pytest.mark.parametrize("name", sorted(component_classes("weighting")))
def test_every_weighting_trains_groups_and_resumes_exactly(name: str) -> None:
    text = {
        "description": "Groups as tasks.",
        "needs": ["train_groups"],
        "recipe": {
            "sampler": "group_balanced", "objectives": ["group_losses"], "weighting": name,
            "stages": ["train"],
        },
    }  # fmt: skip
    method, benchmark = (
        parse_method(Path("search_spaces/x.yaml"), text),
        datasets.load_benchmark("colored_digits"),
    )
    config: Hyperparameters = {"epochs": 2, "clip_norm": 1.0, "batch_size": 64, "lr": 0.02}
    key = resolve_method(method, benchmark).make_key(config, 0, detect_environment())
    run = Run(key, benchmark)
    run.train_epoch()
    again = Run(key, benchmark)
    again.load_state(copy.deepcopy(run.make_state()))  # optimizers share loaded tensors
    second = next(rows(run))
    assert next(rows(again)) == second


def test_runs_in_turn_in_one_process_do_not_touch_each_other() -> None:
    alone = list(rows(start("erm", "colored_digits", epochs=2)))
    one, other = (start("erm", "colored_digits", seed, epochs=2) for seed in (0, 1))
    mixed = [(next(rows(one)), next(rows(other)))[0] for _ in range(2)]
    assert mixed == alone


def test_seeds_differ() -> None:
    found = [next(rows(start("erm", "colored_digits", seed, epochs=1))) for seed in (0, 1)]
    assert found[0] != found[1]


@pytest.mark.parametrize("schedule", ["linear", "cosine_with_restarts", "constant"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_schedules_and_optimizers_resume_exactly(schedule: str, optimizer: str) -> None:
    config: dict[str, Any] = {
        "schedule": schedule,
        "optimizer": optimizer,
        "warmup": 0.3,
        "clip_norm": 1.0,
    }
    whole = list(rows(start("erm", "colored_digits", epochs=3, **config)))
    first = start("erm", "colored_digits", epochs=3, **config)
    first.train_epoch()
    second = start("erm", "colored_digits", epochs=3, **config)
    second.load_state(first.make_state())
    assert list(rows(second)) == whole[1:]


@pytest.mark.deviation("weight-decay")
def test_biases_are_not_decayed() -> None:
    run = start("erm", "colored_digits", weight_decay=0.1)
    groups = run.stage_state.optimizer.param_groups
    assert {p.ndim > 1 for p in groups[0]["params"]} == {True}
    assert {p.ndim > 1 for p in groups[1]["params"]} == {False}
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


@pytest.mark.deviation("nan-steps")
def test_infinite_loss_stops_the_run() -> None:
    run = start("erm", "colored_digits", lr=1000.0)
    with pytest.raises(NotFinite, match="epoch 1: end_task"):
        list(rows(run))


@pytest.mark.deviation("jtt-errors")
def test_jtt_repeats_the_errors_of_its_first_stage() -> None:
    run = start("jtt", "colored_digits", epochs=1, T=2, up=7)
    run.train_epoch()
    before = [parameter.clone() for parameter in run.model.parameters()]
    reference = start("jtt", "colored_digits", epochs=1, T=2, up=7)
    reference.load_state(run.make_state())
    reference._take_steps(
        reference.context.locate_epoch(1)
    )  # the second epoch, without the end of its stage
    row = run.train_epoch()
    assert not row.eligible
    meter = reference.evaluate_split("train")
    assert isinstance(meter, GroupMeter)
    outputs = meter.logits
    wrong = [int(o.argmax()) != int(y) for o, y in zip(outputs, run.context.train.y, strict=True)]
    assert run.sample_counts.tolist() == [7 if w else 1 for w in wrong]
    assert 0 < sum(wrong) < len(wrong)
    assert len(draw_rows(run.context, run.sample_counts, EpochPosition(1, 0))) == len(
        wrong
    ) + 6 * sum(wrong)
    changed = [not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True)]
    assert all(changed)  # the second stage starts from other weights
    assert run.train_epoch().eligible


def test_jtt_without_errors_in_its_second_stage_is_a_fresh_erm() -> None:
    run = start("jtt", "colored_digits", epochs=2, T=1, up=1)
    assert [row.eligible for row in rows(run)] == [False, True, True]


def test_dro_follows_the_exponentiated_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("dro", "colored_digits", eta=0.1)
    weighting = run.stage_state.weighting
    assert isinstance(weighting, GroupDRO)
    q = [0.25] * 4
    original = weighting.compute_weights
    seen: list[tuple[list[float], list[float]]] = []

    def watched(losses: torch.Tensor) -> torch.Tensor:
        found = original(losses)
        seen.append((losses.tolist(), found.tolist()))
        return found

    monkeypatch.setattr(weighting, "compute_weights", watched)
    run.train_epoch()
    for losses, weights in seen:
        q = [w * torch.tensor(0.1 * loss, dtype=torch.float64).exp().item()
             for w, loss in zip(q, losses, strict=True)]  # fmt: skip
        q = [w / sum(q) for w in q]
        assert weights == pytest.approx(q, rel=1e-4)


def test_erm_fails_the_minority_and_group_balance_helps() -> None:
    accuracy = {"erm": torch.zeros(4), "rwg": torch.zeros(4)}
    for method, mean in accuracy.items():
        for seed in range(3):
            run = start(method, "colored_digits", seed, epochs=12)
            list(rows(run))
            mean += torch.tensor(run.evaluate_split("test").compute_metrics()["group_accuracy"]) / 3
    assert min(accuracy["erm"][group] for group in (0, 3)) > 0.95
    assert max(accuracy["erm"][group] for group in (1, 2)) < 0.75
    assert accuracy["rwg"].min() > accuracy["erm"].min() + 0.05


def test_key_is_stable_and_tells_what_matters() -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    resolved = resolve_method(load_method("rwg"), benchmark)
    key = resolved.make_key({"lr": 0.01}, 3, detect_environment())
    assert key == TrialKey.from_dict(json.loads(json.dumps(key.as_dict())))
    assert key.digest == resolved.make_key({"lr": 0.01}, 3, detect_environment()).digest
    others = [
        resolved.make_key({"lr": 0.02}, 3, detect_environment()),
        resolved.make_key({"lr": 0.01}, 4, detect_environment()),
        resolve_method(load_method("rwy"), benchmark).make_key(
            {"lr": 0.01}, 3, detect_environment()
        ),
        resolved.make_key({"lr": 0.01}, 3, detect_environment(threads=2)),
    ]
    assert len({key.digest, *(other.digest for other in others)}) == 5


def test_equal_configurations_have_equal_keys() -> None:
    resolved = resolve_method(load_method("jtt"), datasets.load_benchmark("colored_digits"))
    a = resolved.make_key({"T": 5.0, "lr": 1, "batch_size": 32.0}, 0, detect_environment())
    b = resolved.make_key({"T": 5, "lr": 1.0, "batch_size": 32}, 0, detect_environment())
    assert a.digest == b.digest


def test_invalid_values_are_reported_all_at_once() -> None:
    resolved = resolve_method(load_method("jtt"), datasets.load_benchmark("colored_digits"))
    config: Hyperparameters = {"T": 1.5, "up": "many", "learning_rate": 1, "optimizer": "rmsprop"}
    with pytest.raises(ValidationErrors) as found:
        resolved.make_key(config, 0, detect_environment())
    assert len(found.value.problems) == 4
