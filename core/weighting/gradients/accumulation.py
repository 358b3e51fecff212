"""Accumulation in ``.grad``, as ``Tensor.backward`` does it."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..errors import WeightingError


def list_trainable(name: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters that require a gradient, each once.

    Args:
        name: Name of the argument that holds them.
        parameters: Parameters.

    Raises:
        TypeError: If they are something else, such as one parameter, a module or named parameters.
        WeightingError: If they have complex numbers.
    """
    is_single = isinstance(parameters, Tensor | nn.Module) or not isinstance(parameters, Iterable)
    tensors = [] if is_single else list(parameters)
    if is_single or not all(isinstance(tensor, Tensor) and tensor.is_leaf for tensor in tensors):
        kind = type(parameters).__name__
        raise TypeError(f"{name} is a {kind}, expected several parameters: module.parameters()")
    if any(tensor.is_complex() for tensor in tensors):
        raise WeightingError(
            f"{name} has complex numbers, expected real parameters, see torch.view_as_real"
        )
    unique = {id(tensor): tensor for tensor in tensors}
    return [tensor for tensor in unique.values() if tensor.requires_grad]


def accumulate_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """Add a gradient to ``.grad``, which may keep it: it must not be used elsewhere."""
    if parameter.grad is not None:
        parameter.grad.add_(gradient.to(parameter.grad))
    elif gradient.stride() == parameter.stride() and gradient.dtype == parameter.dtype:
        parameter.grad = gradient.to(parameter.device)
    else:  # the layout of the parameter, as optimizers expect
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


def accumulate_gradients(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], factor: float = 1.0
) -> None:
    """Add gradients times a factor to ``.grad``; None is left out.

    Autograd may return one tensor for two parameters, as for two biases that are added.
    """
    taken: set[int] = set()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        gradient = gradient.to_dense() if gradient.is_sparse else gradient
        is_shared = gradient.untyped_storage().data_ptr() in taken
        taken.add(gradient.untyped_storage().data_ptr())
        if factor != 1.0:
            accumulate_gradient(parameter, gradient * factor)
        else:
            accumulate_gradient(parameter, gradient.clone() if is_shared else gradient)
