"""Base classes of weightings: one family for each input that a weighting needs.

A weighting that needs less costs less: the losses are there anyway; the Gram matrix of the task
gradients can be computed without holding the gradients; all gradients take K times the memory of
one. So each weighting derives from the first of :class:`LossWeighting`, :class:`GramWeighting` and
:class:`GradientWeighting` that suffices, and :func:`core.weighting.backward` dispatches on the
class. :class:`AlphaFairWeighting` is the family of Gram weightings whose weights it can also find
without the Gram matrix.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .device_only import is_staying_on_device
from .errors import require_positive
from .loss_transforms import compute_alpha_fair_loss, parse_loss_alpha
from .search_history import SearchHistory
from .solvers.alpha_fair import SOLVED, solve_alpha_fair
from .solvers.alpha_fair_device import solve_alpha_fair_on_device
from .solvers.gram import check_gram


class Weighting(nn.Module, ABC):
    """Turns a vector of losses into one training step.

    A module, so that learned weights are in :meth:`parameters`, which the optimizer is given, and
    the rest of its state is in :meth:`state_dict`, which checkpoints carry.

    Args:
        losses: The transform of the losses before everything else: ``"plain"`` for none, ``"log"``,
            or the alpha of alpha-fair losses (:mod:`core.weighting.loss_transforms`). In YAML, for
            instance, ``{fairgrad: {alpha: 2, losses: log}}``.

    Raises:
        ValueError: If ``losses`` is none of these.
    """

    needs_losses_after_step: ClassVar[bool] = False  # whether after_step does anything
    reads_loss_sizes: ClassVar[bool] = False  # whether losses of 0 or below make no sense to it
    lr: float | None = None  # learning rate of its parameters; None for the model's
    # Properties that hold for any losses or gradients, tested for every weighting that names them:
    # positive       no weight is negative
    # simplex        and they sum to 1
    # equivariant    reordering the tasks reorders the weights, or, where these are not unique,
    #                keeps the direction
    # scale_free     scaling all gradients alike leaves the update direction unchanged
    # conflict_free  the direction has no negative inner product with a gradient if one exists that
    #                has none
    properties: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, losses: float | str = "plain") -> None:
        super().__init__()
        self.loss_alpha = parse_loss_alpha(losses)

    @property
    def needs_positive_losses(self) -> bool:
        """Whether all losses must be above 0: itself or its transform of them reads their sizes."""
        return self.reads_loss_sizes or self.loss_alpha > 0

    @property
    def has_fixed_kernels(self) -> bool:
        """Whether a CUDA graph can repeat a step.

        Its operations are the same each time, none reads a value on the host, and all that changes
        is in parameters and in buffers of fixed shapes.
        """
        return False

    def transform_losses(self, losses: Tensor) -> Tensor:
        """Return the losses that replace the given ones, ``(k,)``, differentiable.

        Called once a step, before weights are computed and gradients taken.
        """
        return compute_alpha_fair_loss(losses, self.loss_alpha)

    def setup(self, names: Sequence[str]) -> None:
        """Prepare for losses with these names; called once, before the first step.

        Args:
            names: The names of the losses, in their order.

        Raises:
            ValueError: If the parameters do not fit the losses.
        """

    def after_step(self, losses: Tensor | Sequence[Tensor | float]) -> None:
        """Update the state from the losses of the same batch after the optimizer's step.

        Args:
            losses: The losses, ``(k,)``, or a sequence of tensors and numbers with ``k`` entries in
                all, transformed. Gradients are not needed.

        Raises:
            TypeError: If an entry is neither a tensor nor a number.
            ValueError: If there are no losses, or more or fewer than in the step.
        """
        if self.needs_losses_after_step:
            self.update_after_step(join_losses(losses))

    def update_after_step(self, losses: Tensor) -> None:
        """Update the state from the losses after the step, ``(k,)``, without a gradient.

        Called by :meth:`after_step` if :attr:`needs_losses_after_step`.
        """

    def on_epoch_end(self) -> None:
        """Update the state at the end of an epoch."""

    def _setup_if_resized(self, state: Tensor, losses: int) -> None:
        """Set up for unnamed losses if ``state``, with a row for each, has another number of them.

        Args:
            state: A buffer with a row per loss.
            losses: The number of losses.
        """
        if len(state) != losses:
            self.setup([f"loss{i}" for i in range(losses)])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # Buffers may have got their shape and type in the first step: take those of the checkpoint.
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, torch.zeros_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


class LossWeighting(Weighting):
    """Needs the losses only: one backward pass."""

    @abstractmethod
    def compute_weights(self, losses: Tensor) -> Tensor:
        """Return the weights of this step.

        Args:
            losses: The losses, ``(k,)``, without a gradient; 0 where a loss has no example.

        Returns:
            Weights, ``(k,)``, which multiply the losses; without a gradient.
        """

    def compute_objective(self, losses: Tensor) -> Tensor:
        """Return the objective that the step descends, ``()``: the weighted sum of the losses.

        Args:
            losses: The losses, ``(k,)``, with a graph.
        """
        return (self.compute_weights(losses.detach()) * losses).sum()


class GramWeighting(Weighting):
    """Needs the Gram matrix of the task gradients: the direction stays in their span.

    Every Gram weighting returns finite weights for any matrix. A step whose equation has no
    solution (gradients that are 0 or oppose each other exactly, NaN, Inf) is a *fallback step*:
    :attr:`flagged_steps` counts it, and its weights are those of
    :func:`compute_inverse_norm_weights`, or the replacement that the weighting's own documentation
    names.
    """

    flagged_steps: Tensor  # the number of fallback steps, (), int64
    _present: Tensor | None = None  # mask of the tasks whose matrix is solved
    _replaced_solver: Callable[[Tensor], Tensor] | None = None

    def __init__(self, losses: float | str = "plain") -> None:
        super().__init__(losses)
        self.register_buffer("flagged_steps", torch.zeros((), dtype=torch.int64))

    @property
    def caches_weights(self) -> bool:
        """Whether some steps need no Gram matrix."""
        return type(self).use_cached_weights is not GramWeighting.use_cached_weights

    def use_cached_weights(self) -> Tensor | None:
        """Return cached weights for this step, ``(k,)``; None where a Gram matrix is needed.

        Called once a step, before the matrix is computed.
        """
        return None

    def compute_weights(self, gram: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the weights of this step.

        Args:
            gram: Inner products of the present tasks' gradients, ``(k, k)``, symmetric, best in
                float64.
            present: Mask of the present tasks, ``(tasks,)`` bool on the CPU, True k times; None
                where all are. For weightings that keep a value per task.

        Returns:
            Weights, ``(k,)``, of the gradients in the step's direction; always finite, without a
            gradient.

        Raises:
            TypeError: If the matrix is no tensor of floating-point numbers.
            ValueError: If it is not square.
        """
        if self._replaced_solver is not None:
            return self._replaced_solver(gram)
        check_gram(gram)
        self._present = present
        gram = gram.detach()
        is_on_cpu = gram.device.type == "cpu"  # elsewhere, reading a value would wait
        is_finite = torch.isfinite(gram).all()
        solvable = gram
        if not (is_on_cpu and is_finite):
            identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            solvable = torch.where(is_finite, gram, identity)
        with np.errstate(all="ignore"):  # non-finite weights are replaced below
            found = self.solve_weights(solvable).to(gram.dtype)
        is_usable = is_finite & torch.isfinite(found).all()
        if is_on_cpu and is_usable:
            return found
        self._flag_step(~is_usable)
        return torch.where(is_usable, found, compute_inverse_norm_weights(gram))

    @contextmanager
    def replace_solver(self, solve: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Let a function return the weights of a Gram matrix within a ``with`` block.

        By this a step is captured in CUDA graphs around weights that are solved on the host.
        """
        self._replaced_solver = solve
        try:
            yield
        finally:
            self._replaced_solver = None

    @abstractmethod
    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``, for a finite matrix, ``(k, k)``; NaN where there are none.

        May count the step itself where it has a better replacement than
        :func:`compute_inverse_norm_weights`.
        """

    def _flag_step(self, condition: Tensor | bool) -> None:
        """Count the step if the condition holds, without waiting for the device."""
        if isinstance(condition, Tensor) and self.flagged_steps.device != condition.device:
            self.flagged_steps = self.flagged_steps.to(condition.device)
        self.flagged_steps += condition


class AlphaFairWeighting(GramWeighting):
    r"""Solves the equation of alpha-fair weights, ``G w = w^(-1/alpha)`` with ``w > 0``.

    :func:`core.weighting.backward` can find its weights from products with ``G`` too, without the
    matrix: it needs :attr:`alpha`, :meth:`set_weights` and :attr:`search_history`.

    Fallback steps have the solver's replacement (:class:`core.weighting.AlphaFairSolution`): the
    solution for the gradients that are not 0; the nearest point found, if it is near enough;
    otherwise inverse-norm weights, scaled. A matrix with NaN or Inf does not reach the solver: it
    gets the weights of :func:`compute_inverse_norm_weights`.

    Args:
        alpha: The fairness, above 0.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``alpha`` is not above 0.
    """

    properties = frozenset({"positive", "equivariant", "scale_free", "conflict_free"})

    def __init__(self, alpha: float, losses: float | str = "plain") -> None:
        super().__init__(losses)
        require_positive(alpha=alpha)
        self.alpha = alpha
        self.search_history = SearchHistory()

    def set_weights(self, weights: Tensor) -> None:
        """Take weights, ``(k,)``, that were found without :meth:`solve_weights`."""

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        # A CUDA graph cannot wait for the CPU. Elsewhere a copy of K x K numbers there and back is
        # quicker than the couple of thousand small kernels that stay on the device.
        if gram.device.type != "cpu" and is_staying_on_device():
            on_device = solve_alpha_fair_on_device(gram, self.alpha)
            self._flag_step(on_device.status > 0)
            return on_device.weights
        solution = solve_alpha_fair(gram, self.alpha)
        self._flag_step(solution.status != SOLVED)
        return solution.weights

    def get_extra_state(self) -> dict[str, int]:
        """Return the history that the choice of the strategy depends on."""
        return asdict(self.search_history)

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore the state that :meth:`get_extra_state` returned."""
        self.search_history = SearchHistory(**state)


class GradientWeighting(Weighting):
    """Needs the task gradients themselves."""

    @abstractmethod
    def combine_gradients(self, gradients: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the step's direction, ``(p,)``.

        Args:
            gradients: The gradients of the present tasks, ``(k, p)``.
            present: Mask of the present tasks, ``(tasks,)`` bool on the CPU, True k times; None
                where all are.
        """


def join_losses(losses: Tensor | Iterable[Tensor | float]) -> Tensor:
    """Return losses as one vector, ``(k,)``, without a gradient.

    Args:
        losses: A tensor, or tensors and numbers (of NumPy too), with ``k`` entries in all.

    Raises:
        TypeError: If an entry is neither a tensor nor a number.
    """
    if isinstance(losses, Tensor):
        return _to_floats(losses)
    if not isinstance(losses, Iterable):
        raise TypeError(f"losses is {losses!r}, expected a tensor or a sequence of losses")
    losses = list(losses)
    device = next((entry.device for entry in losses if isinstance(entry, Tensor)), None)
    parts = []
    for entry in losses:
        if isinstance(entry, Tensor):
            parts.append(_to_floats(entry))
        elif isinstance(entry, Real):
            number = float(entry)
            parts.append(torch.tensor([number], dtype=torch.get_default_dtype(), device=device))
        else:
            raise TypeError(f"losses holds {entry!r}, expected tensors or numbers")
    if not parts:
        raise ValueError("losses is empty, expected at least one loss")
    return torch.cat(parts)


def _to_floats(losses: Tensor) -> Tensor:
    """Return losses as a vector of floating-point numbers, without a gradient."""
    vector = losses.detach().reshape(-1)
    return vector if vector.is_floating_point() else vector.to(torch.get_default_dtype())


def compute_inverse_norm_weights(gram: Tensor) -> Tensor:
    """Return weights under which all gradients are equally long, ``(k,)``, positive with sum 1.

    The replacement in fallback steps: the sum of the unit gradients, which is 0 where two gradients
    oppose each other exactly and favors no task elsewhere. A gradient that is 0 or not finite gets
    the mean weight of the others; where all are, the weights are equal.

    Args:
        gram: Inner products of the gradients, ``(k, k)``.
    """
    norms = gram.diagonal().sqrt()
    usable = torch.isfinite(norms) & (norms > 0)
    shortest = torch.where(usable, norms, torch.inf).min()
    inverse = torch.where(usable, shortest / norms, 0)
    mean = torch.where(usable.any(), inverse.sum() / usable.sum().clamp(min=1), 1)
    weights = torch.where(usable, inverse, mean)
    return weights / weights.sum()
