"""Between a Gram matrix, wherever it is, and solvers on the host."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def check(gram: Tensor) -> None:
    """Refuse what is no Gram matrix.

    Raises:
        ValueError: If it is not square or has no floating-point numbers.
    """
    if not isinstance(gram, Tensor) or not gram.is_floating_point():
        kind = gram.dtype if isinstance(gram, Tensor) else type(gram).__name__
        raise ValueError(f"the Gram matrix is of type {kind}, expected a floating-point tensor")
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or len(gram) == 0:
        raise ValueError(f"the Gram matrix has shape {tuple(gram.shape)}, expected (k, k)")


def on_host(gram: Tensor) -> NDArray[np.float64]:
    """Return a matrix as float64 on the host; one on a device is waited for."""
    matrix: NDArray[np.float64] = gram.detach().to("cpu", torch.float64).numpy()
    return matrix


def like(weights: NDArray[np.float64], gram: Tensor) -> Tensor:
    """Return weights from the host in the place and type of the matrix they are for."""
    return torch.from_numpy(weights).to(gram.device, gram.dtype)
