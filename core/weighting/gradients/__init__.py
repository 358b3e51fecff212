"""The step: from losses with a graph to gradients in ``.grad``, at the least cost."""

from core.weighting.engine.step import backward
from core.weighting.engine.ways import Step

__all__ = ["Step", "backward"]
