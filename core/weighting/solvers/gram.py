"""Conversion between Gram matrices on any device and arrays for the solvers on the CPU."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def check_gram(gram: Tensor) -> None:
    """Check that a matrix can be a Gram matrix.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it is not square or has no floating-point numbers.
    """
    if not isinstance(gram, Tensor):
        kind = type(gram).__name__
        raise TypeError(f"the Gram matrix is a {kind}, expected a floating-point tensor")
    if not gram.is_floating_point():
        raise ValueError(
            f"the Gram matrix is of type {gram.dtype}, expected a floating-point tensor"
        )
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or len(gram) == 0:
        raise ValueError(f"the Gram matrix has shape {tuple(gram.shape)}, expected (k, k)")


def gram_to_array(gram: Tensor) -> NDArray[np.float64]:
    """Return a matrix as a float64 array on the CPU; waits for one on a device."""
    matrix: NDArray[np.float64] = gram.detach().to("cpu", torch.float64).numpy()
    return matrix


def weights_to_tensor(weights: NDArray[np.float64], gram: Tensor) -> Tensor:
    """Return weights as a tensor with the device and type of the matrix that they are for."""
    return torch.from_numpy(weights).to(gram.device, gram.dtype)
