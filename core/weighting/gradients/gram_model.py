"""A model of an unknown Gram matrix, corrected by products with it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .shared_features import SharedFeatures
from .task_gradients import compute_gram

Vector = NDArray[np.float64]

MAX_KERNEL_POSITIONS = 1024  # above it, (positions, positions) kernels cost too much
MAX_RECORDED_RESIDUAL = 1e6


class GramModel:
    """A positive semi-definite matrix that reproduces all measured products.

    It is a known part plus a positive combination of candidates, fitted to the products with the
    unknown part and corrected so that it gives each of them exactly.

    Args:
        candidates: Matrices, each ``(k, k)``, whose combination may resemble the unknown part;
            scaled to trace k.
        known: The known part, ``(k, k)``, or 0.
    """

    def __init__(self, candidates: Sequence[Vector], known: Vector | float) -> None:
        self.known = known
        self.candidates = [len(c) / np.trace(c) * c for c in candidates if np.trace(c) > 0]
        self._inputs: list[Vector] = []
        self._images: list[Vector] = []
        self._residuals: list[float] = []

    def add_product(self, vector: Vector, image: Vector, residual: float) -> None:
        """Add a product of the unknown part with a vector, and the residual of its weights."""
        self._inputs.append(vector)
        self._images.append(image)
        self._residuals.append(min(residual, MAX_RECORDED_RESIDUAL))

    def build_matrix(self) -> Vector:
        """Return the model, ``(k, k)``."""
        matrix: Vector = self.known + self._build_unknown()
        return matrix

    def _build_unknown(self) -> Vector:
        if not self._inputs:
            mean: Vector = np.mean(self.candidates, axis=0)
            return mean * (np.trace(self.known) / len(mean) if np.any(self.known) else 1.0)
        matrix = self._fit_candidates()
        v, y = np.stack(self._inputs, 1), np.stack(self._images, 1)
        scale = np.linalg.norm(v, axis=0)
        v, y = v / scale, y / scale
        image = matrix @ v
        old = np.linalg.pinv(v.T @ image, rcond=1e-10, hermitian=True)
        new = v.T @ y
        new = np.linalg.pinv((new + new.T) / 2, rcond=1e-10, hermitian=True)
        matrix = matrix - image @ old @ image.T + y @ new @ y.T
        found: Vector = (matrix + matrix.T) / 2
        return found

    def _fit_candidates(self) -> Vector:
        """Return the combination nearest to the products; those of better weights count more."""
        from scipy.optimize import nnls  # here: slow to import, and few methods need it

        rows, right = [], []
        for vector, image, residual in zip(
            self._inputs, self._images, self._residuals, strict=True
        ):
            closeness = 1 / (1 + residual)
            size = np.maximum(np.abs(image), 1e-9 * np.abs(image).max())
            columns = [candidate @ vector / size for candidate in self.candidates]
            rows.append(np.stack(columns, 1) * closeness)
            right.append(image / size * closeness)
        system, target = np.concatenate(rows), np.concatenate(right)
        factors, residual = nnls(system, target)
        matrix = np.sum([f * c for f, c in zip(factors, self.candidates, strict=True)], axis=0)
        if not factors.any():
            matrix = np.sum(self.candidates, axis=0) * np.abs(self._images[-1]).mean()
        spread = 0.3 * residual / np.sqrt(len(target))
        matrix += min(spread, 1.0) * np.diag(matrix.diagonal())
        found: Vector = matrix + 1e-9 * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
        return found


def list_candidates(rows: Tensor, features: SharedFeatures) -> list[Vector]:
    """Return matrices that a Gram matrix of parameter gradients may resemble.

    ``sum_bc k(b, c) F_ib F_jc`` over examples (or positions) ``b, c`` for several kernels ``k``:
    each with itself only (the Gram matrix of the representation), all alike (the Gram matrix of a
    bias), the inner product of the features (that of a linear layer after them), and a narrow
    function of their angle. Entries where a feature is 0, as after a ReLU, contribute nothing.

    Args:
        rows: Gradients of the losses with respect to the features, ``(k, n)``.
        features: The features.
    """
    found = [compute_gram(rows)]
    tensor = features.values[0]
    if len(features.values) > 1 or tensor.ndim < 2:
        return [to_array(found[0])]
    axis = 1 if tensor.ndim == 4 else -1  # of the channels
    values = tensor.detach().movedim(axis, -1).flatten(0, -2).to(rows.dtype)
    gradients = rows.view(-1, *tensor.shape).movedim(axis + 1 if axis > 0 else -1, -1)
    gradients = gradients.flatten(1, -2) * (values != 0)  # (k, positions, channels)
    sums = gradients.sum(1)
    found.append(compute_gram(sums))
    if len(values) <= MAX_KERNEL_POSITIONS:
        inner = values @ values.T
        lengths = inner.diagonal().sqrt().clamp(min=1e-12)
        angles = (inner / lengths / lengths[:, None]) ** 4
        flat = gradients.flatten(1)
        found += [flat @ (kernel @ gradients).flatten(1).T for kernel in (inner, angles)]
    else:
        found.append(compute_gram((gradients.mT @ values).flatten(1)))
    return [to_array(matrix) for matrix in found]


def to_array(values: Tensor) -> Vector:
    """Return a tensor as a float64 array on the CPU."""
    array: Vector = values.detach().to("cpu", torch.float64).numpy()
    return array
