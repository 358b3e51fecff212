"""Epoch rows survive JSON, and rows of another form are refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.training.epoch_row import EpochRow

NUMBERS = st.floats(allow_nan=False)
ROWS = st.builds(
    EpochRow,
    epoch=st.integers(1),
    stage=st.integers(0),
    stage_epoch=st.integers(0),
    eligible=st.booleans(),
    final=st.booleans(),
    losses=st.dictionaries(st.text(), NUMBERS),
    lr=NUMBERS,
    steps=st.integers(0),
    validation=st.dictionaries(
        st.text(), st.one_of(st.none(), NUMBERS, st.lists(st.none() | NUMBERS))
    ),
    flagged=st.none() | st.integers(0),
    microbatch=st.none() | st.integers(1),
    seconds=NUMBERS,
    devices=NUMBERS,
)


@given(ROWS)
def test_json_keeps_every_field(row: EpochRow) -> None:
    assert EpochRow.from_dict(json.loads(json.dumps(row.as_dict()))) == row


@given(ROWS, st.sampled_from(["epoch", "losses", "seconds"]))
def test_rows_with_a_missing_or_renamed_field_are_refused(row: EpochRow, name: str) -> None:
    data = row.as_dict()
    data["old_" + name] = data.pop(name)
    with pytest.raises(ValueError, match=rf"old_{name}.*missing fields \['{name}'\]"):
        EpochRow.from_dict(data)
