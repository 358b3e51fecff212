"""The state of a run between two epochs, from which it resumes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor


@dataclass(frozen=True)
class EpochState:
    """The state after an epoch, of either kind of run.

    Args:
        epochs_done: Epochs that are trained.
    """

    epochs_done: int

    def as_dict(self) -> dict[str, Any]:
        """Return the state by field, ready for :func:`torch.save`; nothing is copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: object) -> Self | None:
        """Return the state that :meth:`as_dict` encoded; None for anything else.

        An entry more, of another version of the project, is left out.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or not names <= set(data):
            return None
        return cls(**{name: data[name] for name in names})


@dataclass(frozen=True)
class RunState(EpochState):
    """The state on which the next epochs of a supervised run depend.

    Args:
        epochs_done: Epochs that are trained.
        model: State of the model.
        optimizer: State of the optimizer.
        schedule: State of the learning-rate schedule; None for a constant rate.
        weighting: State of the weighting.
        sample_counts: How often an epoch has each training example, ``(n,)`` int64.
        microbatch: Examples per forward pass; 0 where batches are not split.
    """

    model: Mapping[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any] | None
    weighting: Mapping[str, Any]
    sample_counts: Tensor
    microbatch: int


@dataclass(frozen=True)
class ReinforcementState(EpochState):
    """The state on which the next epochs of a run of reinforcement learning depend.

    Args:
        epochs_done: Epochs that are trained.
        learner: State of networks, temperatures, weightings and optimizers.
        replay: State of the replay; None where it is not kept: enough to evaluate.
    """

    learner: dict[str, Any]
    replay: dict[str, Any] | None


def decode_state(data: object) -> EpochState | None:
    """Return the state, of either kind, that was encoded; None for anything else."""
    return RunState.from_dict(data) or ReinforcementState.from_dict(data)
