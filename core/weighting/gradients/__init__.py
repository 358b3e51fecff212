"""The step: from losses with a graph to gradients in ``.grad``, at the least cost."""

from core.weighting.gradients.backward import backward
from core.weighting.gradients.strategies.step import BackwardResult

__all__ = ["BackwardResult", "backward"]
