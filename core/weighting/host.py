"""Between a Gram matrix, wherever it is, and solvers on the host."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def on_host(gram: Tensor) -> NDArray[np.float64]:
    """Return a matrix as float64 on the host; one on a device is waited for."""
    matrix: NDArray[np.float64] = gram.detach().to("cpu", torch.float64).numpy()
    return matrix


def like(weights: NDArray[np.float64], gram: Tensor) -> Tensor:
    """Return weights from the host in the place and type of the matrix they are for."""
    return torch.from_numpy(weights).to(gram.device, gram.dtype)
