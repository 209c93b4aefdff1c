"""Drawn sets in the plane and beyond: the toy problems of Tramer et al. 2016, table 3."""

from __future__ import annotations

from assay.data.catalogue import Card, source
from assay.data.dataset import Dataset
from assay.data.table import unit_range
from assay.errors import InvalidInput

__all__ = ["blobs", "circles", "five_class", "moons"]

_HOW = "drawn by scikit-learn; options n, noise, seed"
_MOST = 10_000_000


@source("circles", Card("generator", "n=5,000 rows of 2, 2 classes", _HOW))
def circles(n: int = 5000, noise: float = 0.05, seed: int = 0) -> Dataset:
    """Two concentric circles, scaled to [0, 1].

    Parameters
    ----------
    n
        Rows, 10 to 10,000,000.
    noise
        Standard deviation of the Gaussian noise around the circles of radius 1 and 0.5, >= 0.
    seed
        Of the draw.
    """
    from sklearn.datasets import make_circles

    _check(n, noise)
    x, y = make_circles(n, factor=0.5, noise=noise, random_state=seed)
    return Dataset.from_arrays(unit_range(x), y, name="circles")


@source("moons", Card("generator", "n=5,000 rows of 2, 2 classes", _HOW))
def moons(n: int = 5000, noise: float = 0.25, seed: int = 0) -> Dataset:
    """Two interleaving half circles, scaled to [0, 1].

    Parameters
    ----------
    n
        Rows, 10 to 10,000,000.
    noise
        Standard deviation of the Gaussian noise, >= 0; the half circles have radius 1.
    seed
        Of the draw.
    """
    from sklearn.datasets import make_moons

    _check(n, noise)
    x, y = make_moons(n, noise=noise, random_state=seed)
    return Dataset.from_arrays(unit_range(x), y, name="moons")


@source("blobs", Card("generator", "n=5,000 rows of 2, 3 classes", _HOW))
def blobs(n: int = 5000, noise: float = 0.5, seed: int = 0) -> Dataset:
    """Three round clusters at random centres, scaled to [0, 1].

    Parameters
    ----------
    n
        Rows, 10 to 10,000,000.
    noise
        Standard deviation of a cluster, >= 0; the centres lie in [-10, 10].
    seed
        Of centres and draw.
    """
    from sklearn.datasets import make_blobs

    _check(n, noise)
    x, y = make_blobs(n, centers=3, cluster_std=noise, random_state=seed)
    return Dataset.from_arrays(unit_range(x), y, name="blobs")


@source("five-class", Card("generator", "n=1,000 rows of 20, 5 classes", _HOW))
def five_class(n: int = 1000, noise: float = 0.01, seed: int = 0) -> Dataset:
    """Five classes in 20 dimensions, 4 of them informative, scaled to [0, 1].

    Parameters
    ----------
    n
        Rows, 10 to 10,000,000.
    noise
        Share of rows with a random label, 0 to 1.
    seed
        Of the draw.
    """
    from sklearn.datasets import make_classification

    _check(n, noise, most=1.0)
    x, y = make_classification(
        n, n_features=20, n_informative=4, n_classes=5, flip_y=noise, random_state=seed
    )
    return Dataset.from_arrays(unit_range(x), y, name="five-class")


def _check(n: int, noise: float, most: float = float("inf")) -> None:
    if not 10 <= n <= _MOST:  # noqa: PLR2004 - fewer rows than that may miss a class
        msg = f"n must be 10 to {_MOST:,} rows, got {n}"
        raise InvalidInput(msg)
    if not 0 <= noise <= most:
        msg = f"noise must be 0 to {most:g}, got {noise}"
        raise InvalidInput(msg)
