"""The layout of convolutions on a GPU."""

from dataclasses import replace

import pytest

from core.environment import detect_environment
from core.models.celeba_cnn_small import CelebACNNSmall
from core.models.digits_cnn import DigitsCNN
from core.training.stage_state import prefers_channels_last
from core.weighting import load_weighting


@pytest.mark.parametrize(
    ("device", "precision", "weighting", "expected"),
    [
        ("cuda", "bfloat16", "ls", True),
        ("cuda", "bfloat16", "fairgrad", False),
        ("cuda", "float32", "ls", False),
        ("cpu", "bfloat16", "ls", False),
    ],
)
def test_convolutions_are_channels_last_where_that_was_measured_to_be_faster(
    device: str, precision: str, weighting: str, expected: bool
) -> None:
    environment = replace(detect_environment(gpu=False), device=device, precision=precision)
    given = load_weighting(weighting)
    assert prefers_channels_last(environment, CelebACNNSmall({"a": 1}), given) == expected
    assert not prefers_channels_last(environment, DigitsCNN({"y": 2}), given)
