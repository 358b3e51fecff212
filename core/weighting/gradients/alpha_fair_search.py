"""Alpha-fair weights from products with the Gram matrix, without K gradients.

``G v = J F (J F)' v`` with ``F`` the losses' gradients by the features and ``J`` the features'
derivative by the parameters costs one vector-Jacobian and one Jacobian-vector product. The weights
solve ``G w = w^(-1/alpha)``, which is asked of a model of ``G``: a positive combination of a few
matrices made of ``F`` and the features alone, corrected so that it gives each product measured so
far exactly. Solve the model, measure ``G w``, correct the model, until ``w`` solves the equation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from core.weighting.gradients.jvp import Tangents
from core.weighting.gradients.shared_features import Features
from core.weighting.gradients.task_gradients import gram_of
from core.weighting.solvers.alpha_fair import alpha_fair

Vector = NDArray[np.float64]

TOLERANCE = 1e-2  # of max |(G w - b) / b|, b = w^(-1/alpha)
PRODUCTS = 16  # at most; then the exact way
PRECISION = 2e-2  # by which v G v may differ from |J' F' v|^2: half precision's rounding


class Found(NamedTuple):
    """What the search ended with.

    Args:
        weights: The weights, ``(k,)`` float64 on the host.
        parameters: Those below the features.
        gradients: Their gradients of the weighted sum before ``factor``, None for those without.
        factor: What makes them those of the weights.
        model: The last model of the Gram matrix, whose solution the weights are up to a factor.
        residual: The measured one.
        products: How many were made.
    """

    weights: Tensor
    parameters: Sequence[Tensor]
    gradients: list[Tensor | None]
    factor: float
    model: Tensor
    residual: float
    products: int


class Model:
    """What is known of a Gram matrix.

    Args:
        shapes: Matrices, each ``(k, k)``, whose combination may resemble its unknown part; scaled
            to trace k.
        known: The known part, ``(k, k)``, or 0.
    """

    def __init__(self, shapes: Sequence[Vector], known: Vector | float) -> None:
        self.known = known
        self.shapes = [len(s) / np.trace(s) * s for s in shapes if np.trace(s) > 0]
        self.tried: list[Vector] = []
        self.images: list[Vector] = []
        self.residuals: list[float] = []

    def add(self, tried: Vector, image: Vector, residual: float) -> None:
        """Take note of a product with the unknown part."""
        self.tried.append(tried)
        self.images.append(image)
        self.residuals.append(min(residual, 1e6))

    def matrix(self) -> Vector:
        """Return the model, ``(k, k)``, positive semi-definite, which gives all products."""
        found: Vector = self.known + self._unknown()
        return found

    def _unknown(self) -> Vector:
        if not self.tried:
            mean: Vector = np.mean(self.shapes, axis=0)
            return mean * (np.trace(self.known) / len(mean) if np.any(self.known) else 1.0)
        matrix = self._fitted()
        v, y = np.stack(self.tried, 1), np.stack(self.images, 1)
        scale = np.linalg.norm(v, axis=0)
        v, y = v / scale, y / scale
        image = matrix @ v
        old = np.linalg.pinv(v.T @ image, rcond=1e-10, hermitian=True)
        new = v.T @ y
        new = np.linalg.pinv((new + new.T) / 2, rcond=1e-10, hermitian=True)
        matrix = matrix - image @ old @ image.T + y @ new @ y.T
        found: Vector = (matrix + matrix.T) / 2
        return found

    def _fitted(self) -> Vector:
        """Return the combination of the shapes nearest to the products, better ones first."""
        rows, right = [], []
        for tried, image, residual in zip(self.tried, self.images, self.residuals, strict=True):
            closeness = 1 / (1 + residual)
            size = np.maximum(np.abs(image), 1e-9 * np.abs(image).max())
            rows.append(np.stack([shape @ tried / size for shape in self.shapes], 1) * closeness)
            right.append(image / size * closeness)
        system, target = np.concatenate(rows), np.concatenate(right)
        factors, misfit = nnls(system, target)
        matrix = np.sum([f * s for f, s in zip(factors, self.shapes, strict=True)], axis=0)
        if not factors.any():
            matrix = np.sum(self.shapes, axis=0) * np.abs(self.images[-1]).mean()
        spread = 0.3 * misfit / np.sqrt(len(target))
        matrix += min(spread, 1.0) * np.diag(matrix.diagonal())
        found: Vector = matrix + 1e-9 * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
        return found


def shapes_of(rows: Tensor, features: Features) -> list[Vector]:
    """Return matrices that a Gram matrix of parameter gradients may resemble.

    ``sum_bc k(b, c) F_ib F_jc`` over examples (or positions) ``b, c`` for several kernels ``k``:
    none but with itself (the Gram matrix of the representation), all alike (what a bias sees), the
    inner product of the features (what a linear layer after them would see), and a narrow function
    of their angle. Entries where a feature is 0, as after a ReLU, pass nothing on.
    """
    found = [gram_of(rows)]
    tensor = features.values[0]
    if len(features.values) > 1 or tensor.ndim < 2:
        return [_host(found[0])]
    axis = 1 if tensor.ndim == 4 else -1  # of the channels
    held = tensor.detach().movedim(axis, -1).flatten(0, -2).to(rows.dtype)
    gradients = rows.view(-1, *tensor.shape).movedim(axis + 1 if axis > 0 else -1, -1)
    gradients = gradients.flatten(1, -2) * (held != 0)  # (k, positions, channels)
    sums = gradients.sum(1)
    found.append(gram_of(sums))
    if len(held) <= LARGEST:
        inner = held @ held.T
        lengths = inner.diagonal().sqrt().clamp(min=1e-12)
        angles = (inner / lengths / lengths[:, None]) ** 4
        flat = gradients.flatten(1)
        found += [flat @ (kernel @ gradients).flatten(1).T for kernel in (inner, angles)]
    else:
        found.append(gram_of((gradients.mT @ held).flatten(1)))
    return [_host(matrix) for matrix in found]


LARGEST = 1024  # positions for which their angles are looked at


def search(
    rows: Tensor,
    features: Features,
    parameters: Sequence[Tensor],
    alpha: float,
    known: Tensor | None = None,
) -> Found | None:
    """Return weights of a measured residual of at most 0.01, None where none were found.

    Args:
        rows: The losses' gradients by the features, ``(k, n)``.
        features: The features.
        parameters: The shared parameters below the features.
        alpha: The fairness.
        known: What other parameters contribute to the Gram matrix, ``(k, k)``.

    Raises:
        RuntimeError: If the graph has no Jacobian-vector product.
    """
    tangents = Tangents(features.edges, parameters)
    model = Model(shapes_of(rows, features), 0.0 if known is None else _host(known))
    if not model.shapes:
        return None
    for products in range(1, PRODUCTS + 1):
        matrix = torch.from_numpy(model.matrix())
        if not torch.isfinite(matrix).all():
            return None
        weights = alpha_fair(matrix, alpha).weights.numpy()
        start = torch.from_numpy(weights).to(rows) @ rows
        gradients = list(features.pull(start, parameters))
        image = _host(rows @ torch.cat([t.flatten() for t in tangents(gradients)]).to(rows.dtype))
        if not _consistent(weights, image, gradients):
            return None
        factor, residual = _rescaled(weights, image + np.dot(model.known, weights), alpha)
        if residual <= TOLERANCE:
            found = torch.from_numpy(weights * factor)
            return Found(found, parameters, gradients, factor, matrix, residual, products)
        model.add(weights, image, residual)
    return None


def _rescaled(weights: Vector, image: Vector, alpha: float) -> tuple[float, float]:
    """Return the factor of the weights that makes the residual least, and that residual."""
    ratios = image * weights ** (1 / alpha)
    if not (np.isfinite(ratios).all() and ratios.max() > 0):
        return 1.0, np.inf
    middle = (ratios.min() + ratios.max()) / 2
    if ratios.min() <= 0:
        return 1.0, float(np.abs(ratios - 1).max())
    return float(middle ** (-alpha / (1 + alpha))), float(np.abs(ratios / middle - 1).max())


def _consistent(weights: Vector, image: Vector, gradients: Sequence[Tensor | None]) -> bool:
    """Return whether the two products agree on the step's squared length."""
    squares = [g.double().square().sum() for g in gradients if g is not None]
    square = float(torch.stack(squares).sum()) if squares else 0.0
    return bool(abs(float(weights @ image) - square) <= PRECISION * square and square > 0)


def _host(values: Tensor) -> Vector:
    found: Vector = values.detach().to("cpu", torch.float64).numpy()
    return found
