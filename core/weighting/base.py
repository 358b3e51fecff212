"""What every weighting is, and the three families by what they need to know.

A weighting that needs less costs less: the losses are there anyway; the Gram matrix of the tasks'
gradients can be had without ever holding the gradients; all gradients take K times the memory of
one. So each weighting derives from the first of :class:`LossWeighting`, :class:`GramWeighting` and
:class:`GradientWeighting` that suffices, and the engine works by the class.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from core.weighting.loss_transforms import alpha_fair_loss, fairness
from core.weighting.solvers.gram import check


class Weighting(nn.Module, ABC):
    """Turns a vector of losses into one training step.

    A module, so that what it learns is in :meth:`parameters`, which the optimiser is given, and
    what it remembers is in :meth:`state_dict`, which checkpoints carry.

    Args:
        losses: What becomes of the losses before everything else: ``"plain"``, ``"log"``, or the
            alpha of alpha-fair losses (:mod:`core.weighting.loss_transforms`). In YAML, for
            instance, ``{fairgrad: {alpha: 2, losses: log}}``.
    """

    needs_losses_after_step: ClassVar[bool] = False  # whether after_step does anything
    lr: float | None = None  # learning rate of what it learns; None takes the model's
    # What holds for any losses or gradients, and is tested for every weighting that claims it:
    # positive       no weight is negative
    # simplex        and they sum to 1
    # equivariant    reordering the tasks reorders the weights, or, where these are not unique,
    #                leaves the direction
    # scale_free     scaling all gradients alike leaves the direction's direction
    # conflict_free  the direction has no negative inner product with a gradient if one exists that
    #                has none
    properties: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, losses: float | str = "plain") -> None:
        super().__init__()
        self.loss_alpha = fairness(losses)

    @property
    @abstractmethod
    def required_input(self) -> str:
        """What a step is made from: ``losses``, ``gram`` or ``gradients``; one per family."""

    def transform_losses(self, losses: Tensor) -> Tensor:
        """Return the losses that take the place of the given ones, ``(k,)``, differentiable.

        The engine calls it once a step, before weighing and before differentiating.
        """
        return alpha_fair_loss(losses, self.loss_alpha)

    def setup(self, names: Sequence[str]) -> None:
        """Prepare for losses with these names; called once, before the first step.

        Args:
            names: The losses' names in their order.

        Raises:
            ValueError: If the parameters do not fit the losses.
        """

    def after_step(self, losses: Tensor) -> None:
        """Look at the losses of the batch again after the optimiser's step."""

    def on_epoch_end(self) -> None:
        """Take note that an epoch has ended."""

    def _setup_if_resized(self, state: Tensor, losses: int) -> None:
        """Bind to so many losses if ``state``, with a row for each, is for another number."""
        if len(state) != losses:
            self.setup([f"loss{i}" for i in range(losses)])

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        # What is remembered may have got its shape and type in the first step: take the saved ones.
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, torch.zeros_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *others)


class LossWeighting(Weighting):
    """Needs the losses only: one backward pass."""

    required_input = "losses"

    @abstractmethod
    def compute_weights(self, losses: Tensor) -> Tensor:
        """Return the weights of this step.

        Args:
            losses: The losses, ``(k,)``, without a gradient; 0 where a loss has no example.

        Returns:
            Weights, ``(k,)``, which multiply the losses; without a gradient.
        """

    def compute_objective(self, losses: Tensor) -> Tensor:
        """Return what the step descends, ``()``: the weighted sum of the losses, ``(k,)``."""
        return (self.compute_weights(losses.detach()) * losses).sum()


class GramWeighting(Weighting):
    """Needs the Gram matrix of the tasks' gradients: the step's direction stays in their span.

    Every Gram weighting returns finite weights for any matrix. Where its own equation has no
    answer (gradients that are 0 or oppose each other exactly, NaN, Inf), the step is *flagged*:
    :attr:`flagged_steps` counts it and the weights are those of :func:`equal_lengths`, or what the
    weighting's own documentation says.
    """

    required_input = "gram"
    flagged_steps: Tensor  # (), int64

    def __init__(self, losses: float | str = "plain") -> None:
        super().__init__(losses)
        self.register_buffer("flagged_steps", torch.zeros((), dtype=torch.int64))

    def use_cached_weights(self) -> Tensor | None:
        """Return weights that hold this step without a Gram matrix; None where it is needed.

        The engine asks once a step, before it computes the matrix.
        """
        return None

    def compute_weights(self, gram: Tensor) -> Tensor:
        """Return the weights of this step.

        Args:
            gram: Inner products of the tasks' gradients, ``(k, k)``, symmetric, best in float64.

        Returns:
            Weights, ``(k,)``, of the gradients in the step's direction; always finite, without a
            gradient.

        Raises:
            ValueError: If the matrix is not square or has no floating-point numbers.
        """
        check(gram)
        gram = gram.detach()
        on_host = gram.device.type == "cpu"  # elsewhere, to ask for a value would be to wait
        finite = torch.isfinite(gram).all()
        given = gram
        if not (on_host and finite):
            identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            given = torch.where(finite, gram, identity)
        with np.errstate(all="ignore"):  # what is not finite is caught below
            found = self.solve_weights(given).to(gram.dtype)
        usable = finite & torch.isfinite(found).all()
        if on_host and usable:
            return found
        self._flag(~usable)
        return torch.where(usable, found, equal_lengths(gram))

    @abstractmethod
    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``, for a finite matrix, ``(k, k)``; NaN where there are none.

        May flag a step itself where it has a better replacement than :func:`equal_lengths`.
        """

    def _flag(self, when: Tensor | bool) -> None:
        """Count the step if ``when`` holds, without asking the device."""
        if isinstance(when, Tensor) and self.flagged_steps.device != when.device:
            self.flagged_steps = self.flagged_steps.to(when.device)
        self.flagged_steps += when


class GradientWeighting(Weighting):
    """Needs the gradients themselves."""

    required_input = "gradients"

    @abstractmethod
    def combine_gradients(self, gradients: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the step's direction, ``(p,)``.

        Args:
            gradients: The tasks' gradients, ``(k, p)``.
            present: Which tasks they are of, ``(tasks,)`` bool on the host, True k times; None
                where all are.
        """


def equal_lengths(gram: Tensor) -> Tensor:
    """Return weights under which all gradients are equally long, ``(k,)``, positive with sum 1.

    What a step falls back to: the sum of the unit gradients, which is 0 where two gradients oppose
    each other exactly and favours no task elsewhere. A gradient that is 0 or not finite gets the
    mean weight of the others; where all are, the weights are equal.
    """
    norms = gram.diagonal().sqrt()
    usable = torch.isfinite(norms) & (norms > 0)
    shortest = torch.where(usable, norms, torch.inf).min()
    inverse = torch.where(usable, shortest / norms, 0)
    mean = torch.where(usable.any(), inverse.sum() / usable.sum().clamp(min=1), 1)
    weights = torch.where(usable, inverse, mean)
    return weights / weights.sum()
