"""Which trial Tune is told to start."""

import pytest
from ray.tune.experiment import Trial

from tuning.cluster import engine


def test_only_a_trial_that_waits_for_long_is_given_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = engine.Queue([], 1, lambda tried: {}, lambda: False, lambda search, tried: None)
    scheduler = engine._QueueScheduler(queue)
    first, second = (Trial("trial", stub=True) for _ in range(2))
    for trial in (first, second):
        scheduler.on_trial_add(None, trial)
    assert scheduler.choose_trial_to_run(None) is None
    monkeypatch.setattr(engine, "STARTS", -1.0)
    assert scheduler.choose_trial_to_run(None) is first
    assert scheduler.choose_trial_to_run(None) is first  # until there is a process for it
    first.set_status(Trial.RUNNING)
    assert scheduler.choose_trial_to_run(None) is second
    second.set_status(Trial.RUNNING)
    assert scheduler.choose_trial_to_run(None) is None
