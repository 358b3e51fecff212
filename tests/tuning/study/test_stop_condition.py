"""Limits that stop a study, without a study."""

from tuning.study.stopping import StopCondition


def test_without_limits_nothing_stops_and_no_hours_are_summed() -> None:
    stop = StopCondition(None, None)

    def refuse() -> float:
        raise AssertionError("there is no limit of device-hours")

    assert not stop.should_stop(refuse)
    assert stop.reason == ""


def test_a_limit_of_device_hours_stops_once_it_is_used_up() -> None:
    stop = StopCondition(None, 2.0)
    assert not stop.should_stop(lambda: 1.9)
    assert stop.should_stop(lambda: 2.0)
    assert stop.reason == "--max-device-hours 2 is used up"
    assert stop.should_stop(lambda: 0.0)  # a reason stays


def test_a_time_limit_stops() -> None:
    stop = StopCondition(0.0, None)
    assert stop.should_stop(lambda: 0.0)
    assert stop.reason == "--time-limit is reached"


def test_searches_end_where_the_rest_of_a_limit_is_needed_for_confirmation() -> None:
    assert not StopCondition(None, None).should_end_searches(1e9, 1e9, lambda: 1e9)
    timed = StopCondition(100.0, None)
    assert not timed.should_end_searches(10.0, 1e9, lambda: 1e9)
    assert timed.should_end_searches(110.0, 0.0, lambda: 0.0)
    counted = StopCondition(None, 2.0)
    assert not counted.should_end_searches(1e9, 0.5, lambda: 1.4)
    assert counted.should_end_searches(0.0, 0.5, lambda: 1.6)
    assert counted.reason == ""  # the study itself continues
