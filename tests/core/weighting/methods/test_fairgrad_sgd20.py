"""FairGrad by 20 clipped steps, against torch's optimizer and clipping."""

import pytest
import torch
from torch import Tensor

from core.weighting import load_weighting
from core.weighting.base import GramWeighting


def take_published_steps(gram: Tensor, alpha: float) -> Tensor:
    """Return the best of 20 iterates of torch's SGD, whose gradients autograd takes."""
    weights = torch.full((len(gram),), 1 / len(gram), dtype=gram.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=0.5)
    seen = []
    for _ in range(20):
        optimizer.zero_grad()
        error = gram @ weights - (1 / (weights + 1e-8)).pow(1 / alpha)
        square = (error**2).sum()
        seen.append((float(square.detach()), weights.detach().clone()))
        square.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        with torch.no_grad():
            weights.clamp_(min=1e-8)
    return min(seen, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize("scale", [1e-4, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_weights_are_those_of_torch_optimizer(alpha: float, scale: float) -> None:
    weighting = load_weighting("fairgrad_sgd20", alpha=alpha)
    assert isinstance(weighting, GramWeighting)
    torch.manual_seed(0)
    for tasks in (1, 2, 5, 10):
        rows = torch.randn(tasks, 7, dtype=torch.float64) * scale
        gram = rows @ rows.T
        expected = take_published_steps(gram, alpha)
        torch.testing.assert_close(weighting.compute_weights(gram), expected, rtol=1e-9, atol=1e-12)


def test_it_does_not_solve_the_equation() -> None:
    """Which is its difference from ``fairgrad``."""
    gram = torch.diag(torch.tensor([1e-4, 1.0], dtype=torch.float64))
    found, exact = (
        weighting.compute_weights(gram)
        for weighting in (load_weighting("fairgrad_sgd20"), load_weighting("fairgrad"))
        if isinstance(weighting, GramWeighting)
    )
    residuals = [float(((gram @ w) * w.sqrt() - 1).abs().max()) for w in (found, exact)]
    assert residuals[1] < 1e-6 < 0.5 < residuals[0]
