"""Small real sets that come with scikit-learn: nothing to download."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.data.catalogue import Card, source
from assay.data.dataset import Dataset
from assay.data.table import unit_range

__all__ = ["breast_cancer", "digits", "iris", "wine"]

_HOW = "comes with scikit-learn"


@source("digits", Card("embedded", "1,797 images 1x8x8, 10 classes", _HOW, "CC BY 4.0 (UCI)"))
def digits() -> Dataset:
    """Handwritten digits, 8x8 pixels (scikit-learn).

    Returns
    -------
    Dataset
        ``[1797, 1, 8, 8]`` in [0, 1] (the file's 0 to 16, divided by 16).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images[:, None] / 16.0).astype(np.float32)
    return Dataset.from_arrays(x, bunch.target, [str(c) for c in bunch.target_names], name="digits")


@source("iris", Card("embedded", "150 rows of 4, 3 classes", _HOW, "CC BY 4.0 (UCI)"))
def iris() -> Dataset:
    """Iris flowers, each column scaled to [0, 1] over its observed span."""
    from sklearn.datasets import load_iris

    return _table(load_iris(), "iris")


@source("wine", Card("embedded", "178 rows of 13, 3 classes", _HOW, "CC BY 4.0 (UCI)"))
def wine() -> Dataset:
    """Wine recognition, each column scaled to [0, 1] over its observed span."""
    from sklearn.datasets import load_wine

    return _table(load_wine(), "wine")


@source("breast-cancer", Card("embedded", "569 rows of 30, 2 classes", _HOW, "CC BY 4.0 (UCI)"))
def breast_cancer() -> Dataset:
    """Breast cancer Wisconsin (diagnostic), each column scaled to [0, 1] over its observed span."""
    from sklearn.datasets import load_breast_cancer

    return _table(load_breast_cancer(), "breast-cancer")


def _table(bunch: Any, name: str) -> Dataset:
    classes = [str(c) for c in bunch.target_names]
    return Dataset.from_arrays(unit_range(bunch.data), bunch.target, classes, name=name)
