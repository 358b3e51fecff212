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
