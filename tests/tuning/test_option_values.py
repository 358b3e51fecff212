"""Values of options."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.option_values import at_least, parse_duration, parse_gpus, parse_hours


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("90m", 5400), ("1h30m", 5400), ("1d", 86400), ("0.5h", 1800),
     ("1d2h3m4s", 93784), ("1.5", 1.5)],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(days=st.integers(0, 9), hours=st.integers(0, 99), minutes=st.integers(1, 99))
def test_units_add_up(days: int, hours: int, minutes: int) -> None:
    expected = 86400 * days + 3600 * hours + 60 * minutes
    assert parse_duration(f"{days}d{hours}h{minutes}m") == expected


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "soon", "-5", "30m1h", "1h 30m", "5w", "nan", "1e3"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="1h30m"):
        parse_duration(text)


def test_hours_are_numbers() -> None:
    assert (parse_hours("20"), parse_hours("0.001")) == (20, 0.001)


@pytest.mark.parametrize("text", ["1_0", "", "ten", "0", "-1", "1e999", "nan"])
def test_other_numbers_are_refused(text: str) -> None:
    for convert in (at_least(1), at_least(1.0), parse_hours):
        with pytest.raises(argparse.ArgumentTypeError, match="received"):
            convert(text)
    if text != "0":
        with pytest.raises(argparse.ArgumentTypeError, match="received"):
            parse_gpus(text)
