"""The mark of tests that step Meta-World's simulator."""

import importlib.util

import pytest

needs_simulator = pytest.mark.skipif(
    importlib.util.find_spec("metaworld") is None,
    reason="Meta-World is not installed (requirements-metaworld.txt)",
)
