"""Handwritten digits of scikit-learn's package, read without importing scikit-learn."""

import gzip
from importlib.metadata import files

import numpy as np
from numpy.typing import NDArray

FILE_NAME = "digits.csv.gz"


def read_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the pixels, ``(1797, 64)`` from 0 to 16, and the labels, ``(1797,)``.

    Equal to ``sklearn.datasets.load_digits(return_X_y=True)``, whose import takes longer than a
    study's first epochs, in each of its processes.
    """
    (path,) = (file for file in files("scikit-learn") or () if file.name == FILE_NAME)
    with gzip.open(str(path.locate()), "rt", encoding="utf-8") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)
