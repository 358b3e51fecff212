"""DFR's last layer agrees with scikit-learn's on the same subsets."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from core.training.refit import _draw_balanced, refit_last_layer


def problem(classes: int, n: int = 240) -> tuple[Tensor, Tensor, Tensor]:
    """Return features with one core and one spurious direction, labels and unequal groups."""
    generator = torch.Generator().manual_seed(classes)
    y = torch.randint(classes, (n,), generator=generator)
    agrees = torch.rand(n, generator=generator) < 0.85
    a = torch.where(agrees, y % 2, 1 - y % 2)
    features = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    features[:, 0] += 3 * y
    features[:, 1] += 5 * a
    features[:, 2] *= 40  # standardized
    return features, y, 2 * y + a


@pytest.mark.parametrize("classes", [2, 3])
def test_one_refit_is_scikit_learns(classes: int) -> None:
    x, y, group = problem(classes)
    rows = _draw_balanced(group, torch.Generator().manual_seed(3))
    weight, bias = refit_last_layer(x, y, group, classes, 0.3, 1, torch.Generator().manual_seed(3))
    assert weight.shape == (classes, 6)
    logistic = LogisticRegression(C=0.3, l1_ratio=1.0, solver="liblinear", max_iter=1000)
    scaler = StandardScaler().fit(x.numpy())
    model = make_pipeline(scaler, OneVsRestClassifier(logistic) if classes > 2 else logistic)
    model[1].fit(scaler.transform(x[rows].numpy()), y[rows].numpy())
    expected = model.decision_function(x.numpy())
    logits = (x @ weight.T + bias).numpy()
    found = logits[:, 1] - logits[:, 0] if classes == 2 else logits
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert (logits.argmax(axis=1) == model.predict(x.numpy())).all()


def test_refits_are_averaged() -> None:
    x, y, group = problem(2)
    together = refit_last_layer(x, y, group, 2, 0.3, 3, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    single = [refit_last_layer(x, y, group, 2, 0.3, 1, generator) for _ in range(3)]
    assert not single[0][0].equal(single[1][0])
    for part in (0, 1):
        mean = torch.stack([one[part] for one in single]).mean(dim=0)
        torch.testing.assert_close(together[part], mean)


def test_subsets_are_balanced_and_random() -> None:
    group = torch.tensor([0] * 50 + [2] * 7 + [3] * 20)  # group 1 is absent
    generator = torch.Generator().manual_seed(0)
    first, second = _draw_balanced(group, generator), _draw_balanced(group, generator)
    for rows in (first, second):
        assert len(rows.unique()) == len(rows) == 21
        assert torch.bincount(group[rows]).tolist() == [7, 0, 7, 7]
    assert set(first.tolist()) != set(second.tolist())


def test_the_penalty_makes_weights_nought() -> None:
    x, y, group = problem(2)
    strong = refit_last_layer(x, y, group, 2, 0.01, 1, torch.Generator().manual_seed(0))[0]
    weak = refit_last_layer(x, y, group, 2, 10.0, 1, torch.Generator().manual_seed(0))[0]
    assert (strong == 0).sum() > (weak == 0).sum()


def test_it_mends_the_worst_group() -> None:
    x, y, group = problem(2, n=2000)
    plain = LogisticRegression().fit(x.numpy(), y.numpy()).predict(x.numpy())
    weight, bias = refit_last_layer(x, y, group, 2, 1.0, 5, torch.Generator().manual_seed(0))
    refitted = (x @ weight.T + bias).argmax(dim=1)

    def worst(prediction: Tensor) -> float:
        right = (prediction == y).double()
        return min(right[group == g].mean().item() for g in range(4))

    assert worst(refitted) > worst(torch.from_numpy(plain)) + 0.05


def test_a_class_without_examples_is_refused() -> None:
    x, y, group = problem(2)
    with pytest.raises(ValueError, match="no example of class 2"):
        refit_last_layer(x, y, group, 3, 1.0, 1, torch.Generator())
