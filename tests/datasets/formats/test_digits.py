"""The digits are those of scikit-learn, although it is not imported for them."""

import numpy as np
from sklearn.datasets import load_digits

from datasets.formats.digits import read_digits


def test_digits_are_those_of_scikit_learn() -> None:
    for own, theirs in zip(read_digits(), load_digits(return_X_y=True), strict=True):
        np.testing.assert_array_equal(own, theirs)
        assert own.dtype == theirs.dtype
