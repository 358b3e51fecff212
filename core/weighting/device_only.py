"""Steps whose weights must be found without waiting for the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_is_requested: ContextVar[bool] = ContextVar("stay_on_device", default=False)


@contextmanager
def stay_on_device() -> Iterator[None]:
    """Within it, weightings that can solve on the host or on the device do so on the device.

    Of one step alone the host is quicker; a captured step cannot wait for it, and the steps that
    prepare a capture must use the same solver.
    """
    token = _is_requested.set(True)
    try:
        yield
    finally:
        _is_requested.reset(token)


def is_staying_on_device() -> bool:
    """Return whether weights must be found on the device: on request, and in a CUDA graph."""
    return _is_requested.get() or (
        torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    )
