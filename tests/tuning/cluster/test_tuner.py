"""The trial that Tune starts next."""

from typing import Any

import pytest
from ray.tune.experiment import Trial as RayTrial

from tuning.cluster import tuner
from tuning.cluster.queue import Queue

CONTROLLER: Any = None  # which the scheduler never looks at


class OneSlot:
    def count_slots(self) -> int:
        return 1

    def count_lost_nodes(self) -> int:
        return 0


def test_only_a_trial_that_waits_for_long_is_given_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = Queue([], OneSlot(), lambda trial: "", lambda: False, lambda search, trial: None)
    scheduler = tuner.QueueScheduler(queue)
    first, second = (RayTrial("trial", stub=True) for _ in range(2))
    for trial in (first, second):
        scheduler.on_trial_add(CONTROLLER, trial)
    assert scheduler.choose_trial_to_run(CONTROLLER) is None
    monkeypatch.setattr(tuner, "START_SECONDS", -1.0)
    assert scheduler.choose_trial_to_run(CONTROLLER) is first
    assert scheduler.choose_trial_to_run(CONTROLLER) is first  # until there is a process for it
    first.set_status(RayTrial.RUNNING)
    assert scheduler.choose_trial_to_run(CONTROLLER) is second
    second.set_status(RayTrial.RUNNING)
    assert scheduler.choose_trial_to_run(CONTROLLER) is None
