"""F1 of attributes against scikit-learn's and the published formula."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from datasets.multitask.metrics import F1


@given(n=st.integers(1, 40), seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_f1(n: int, seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.standard_normal(n)).float()
    labels = torch.from_numpy((random.uniform(size=n) < share).astype(np.uint8))
    accumulator = F1("f1_Bald")
    parts = [accumulator.update(logits[rows], labels[rows]) for rows in torch.arange(n).split(7)]
    predicted = (torch.sigmoid(logits) > 0.5).numpy()
    assert accumulator.compute_metrics() == {
        "f1_Bald": pytest.approx(f1_score(labels.numpy(), predicted, zero_division=0))
    }
    assert np.array_equal(torch.cat(parts).numpy(), predicted != labels.numpy())
    hits = int((predicted & labels.numpy().astype(bool)).sum())  # with the published 1e-8
    precision, recall = hits / (predicted.sum() + 1e-8), hits / (labels.numpy().sum() + 1e-8)
    published = 2 * precision * recall / (precision + recall + 1e-8)
    assert accumulator.compute_metrics()["f1_Bald"] == pytest.approx(published, abs=1e-6)
