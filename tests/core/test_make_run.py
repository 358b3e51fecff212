"""Runs of both kinds."""

import pytest

import datasets
from core.environment import detect_environment
from core.make_run import make_run
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.reinforcement.run import ReinforcementRun
from core.training.run import Run
from core.training.run_state import decode_state


@pytest.mark.parametrize(("dataset", "kind"), [("two_digits", Run), ("mt1", ReinforcementRun)])
def test_kind_and_state_follow_the_data_set(dataset: str, kind: type) -> None:
    benchmark = datasets.load_benchmark(dataset)
    resolved = resolve_method(load_method("fairgrad"), benchmark)
    small = {"width": 8, "depth": 1, "capacity": 4} if dataset == "mt1" else {}
    run = make_run(resolved.make_key(small, 0, detect_environment(gpu=False)), benchmark)
    assert type(run) is kind
    state = decode_state(run.make_state().as_dict())
    assert type(state) is type(run.make_state())
    assert state is not None
    assert run.can_resume(state)
    run.load_state(state)
    assert decode_state({"epochs_done": 1}) is None
