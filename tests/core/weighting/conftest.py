"""Fixtures of the tests of weightings."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded(one_thread: None) -> None:
    """Make the random weightings draw the same in every order of the tests."""
    torch.manual_seed(0)
