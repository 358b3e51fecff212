"""The error of arguments that do not fit each other."""


class WeightingError(ValueError):
    """The arguments of :func:`core.weighting.backward` do not fit each other or the weighting."""
