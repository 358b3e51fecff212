"""Aligned-MTL."""

import torch
from torch import Tensor

from ..base import GramWeighting

SCALES = ("min", "median", "rmse")


class AlignedMTL(GramWeighting):
    r"""The sum of the gradients with their principal components made equally large.

    With ``G = V diag(l) V'`` over the eigenvalues above rounding, ``B = sigma V diag(l)^(-1/2) V'``
    and ``w = B 1``: the transformed gradients are orthogonal and equally long on their span.
    Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023.

    Properties: of either sign; permutation equivariant; unchanged when the matrix is scaled; the
    direction's inner products with the gradients are those of ``sigma G^(1/2) 1``. Flagged where
    all gradients are 0.

    Args:
        scale: Statistic of the roots of the eigenvalues that ``sigma`` is: ``min`` (published),
            ``median``, or ``rmse``, their root mean square.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``scale`` is none of these.
    """

    properties = frozenset({"equivariant", "scale_free"})

    def __init__(self, scale: str = "min", losses: float | str = "plain") -> None:
        super().__init__(losses)
        if scale not in SCALES:
            raise ValueError(f"scale is {scale!r}, expected one of {', '.join(SCALES)}")
        self.scale = scale

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        # On the CPU: a GPU is slower at so small a matrix, and its solver makes the host wait.
        values, vectors = torch.linalg.eigh(gram.to("cpu", torch.float64))
        # The inner products' rounding is a few times that of the eigenvalues, and the smallest
        # eigenvalue sets the step's length.
        noise = values[-1] * 16 * len(gram) * torch.finfo(gram.dtype).eps
        kept = torch.where((values > noise) & (values > 0), values, torch.nan)
        inverse_roots = kept.rsqrt().nan_to_num(0.0)
        balanced: Tensor = vectors @ (inverse_roots * vectors.sum(0))
        return (self._compute_scale(kept) * balanced).to(gram.device)

    def _compute_scale(self, kept: Tensor) -> Tensor:
        """Return ``sigma``, ``()``; NaN where no eigenvalue is left."""
        if self.scale == "median":
            return kept.nanmedian().sqrt()
        if self.scale == "rmse":
            return kept.nanmean().sqrt()
        smallest = kept.nan_to_num(torch.inf).min()
        return torch.where(smallest < torch.inf, smallest, torch.nan).sqrt()
