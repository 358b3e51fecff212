"""Weightings that keep a value per task keep it for the task where others are absent."""

import torch

from core.weighting.methods.sdmgrad import SDMGrad


def test_sdmgrads_weights_stay_with_their_tasks() -> None:
    gradients = torch.tensor([[4.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    weighting = SDMGrad(iterations=3)
    weighting.setup(["a", "b", "c"])
    weighting.compute_weights(gradients @ gradients.T)
    before = weighting.found.clone()
    present = torch.tensor([True, False, True])
    some = gradients[present]
    weights = weighting.compute_weights(some @ some.T, present)
    assert weights.shape == (2,)
    after = weighting.found
    assert after.shape == (3,)
    torch.testing.assert_close(after[1], before[1])
    torch.testing.assert_close(after.sum(), torch.ones((), dtype=torch.float64))
    again = weighting.compute_weights(gradients @ gradients.T)
    assert again.shape == (3,)


def test_all_present_is_as_before() -> None:
    gradients = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    gram = gradients @ gradients.T
    found = []
    for present in (None, torch.ones(4, dtype=torch.bool)):
        weighting = SDMGrad(iterations=20)
        weighting.setup(list("abcd"))
        found.append([weighting.compute_weights(gram, present) for _ in range(3)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
