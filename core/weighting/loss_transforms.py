"""Transforms of the losses before weighting: none, logarithms, or alpha-fair losses."""

import math

import torch
from torch import Tensor

# Losses up to this count as 0: the published code adds it inside its logarithms.
MIN_LOSS = 1e-8


def parse_loss_alpha(losses: float | str) -> float:
    """Return the alpha of the ``losses`` parameter that weightings share.

    Args:
        losses: ``"plain"`` (0), ``"log"`` (1), or alpha itself, a number of at least 0.

    Raises:
        ValueError: If it is none of these.
    """
    if losses in ("plain", "log"):
        return float(losses == "log")
    if isinstance(losses, str) or not (math.isfinite(losses) and losses >= 0):
        raise ValueError(f"losses is {losses!r}, expected 'plain', 'log' or a number from 0")
    return float(losses)


def compute_alpha_fair_loss(losses: Tensor, alpha: float) -> Tensor:
    """Return alpha-fair losses, ``L^(1 - alpha) / (1 - alpha)``, at alpha = 1 ``log L``.

    Their gradients are ``L^-alpha`` times those of the losses: alpha = 0 leaves the losses as they
    are, alpha = 1 makes gradients independent of a loss's unit, larger alphas favor small losses.
    Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024, who put them into LS, RLW,
    DWA, UW, MGDA, PCGrad and others; alpha = 1 gives the "log" variants of their code.

    Args:
        losses: Losses, ``(k,)``, of at least 0. One of at most 1e-8 (a perfect fit, or a loss
            without an example) becomes a constant without a gradient, a negative one NaN
            with a NaN gradient, so that a run fails in place of ascending it.
        alpha: The fairness, of at least 0.

    Returns:
        The transformed losses, ``(k,)``, increasing in the losses; negative for alpha above 1.
    """
    if alpha == 0:
        return losses
    # The derivative of the logarithm is finite below 0 too, and a step along it would ascend.
    invalid = torch.where(losses.detach() < -MIN_LOSS, torch.nan, 1.0)
    clamped = torch.where(losses.abs() <= MIN_LOSS, MIN_LOSS, losses) * invalid
    return clamped.log() if alpha == 1 else clamped.pow(1 - alpha) / (1 - alpha)
