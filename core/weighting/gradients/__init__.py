"""The step: from losses with a graph to gradients in ``.grad``, at the least cost."""

from .backward import backward
from .strategies.step import BackwardResult

__all__ = ["BackwardResult", "backward"]
