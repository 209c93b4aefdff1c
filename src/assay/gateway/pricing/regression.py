"""Lines through honest users: least squares as published, a robust line, and a band.

The published calibration is two least-squares lines. A line through totals has no
notion of how far honest users differ, so it is offered with a robust fit, which a few
poisoned accounts cannot turn, and with a band, the bounds that Dziedzic et al. 2022
suggest instead of a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from assay.errors import InvalidInput
from assay.gateway.pricing.rule import FloatArray

__all__ = ["Band", "Line", "fit_band", "fit_line", "fit_robust"]

_LEAST = 2


@dataclass(frozen=True, slots=True)
class Line:
    """``y = slope * x + intercept`` with its share of explained variance."""

    slope: float
    intercept: float
    r_squared: float

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Return the line's values."""
        return self.slope * np.asarray(x, dtype=np.float64) + self.intercept


@dataclass(frozen=True, slots=True)
class Band:
    """Lower and upper line of honest totals."""

    lower: Line
    upper: Line

    def excess(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Return how far ``y`` lies above the band; 0 inside and below it.

        Below is no deviation: a user who is cheaper than others must not pay for it.
        """
        return np.maximum(0.0, np.asarray(y, dtype=np.float64) - self.upper(x))


def _points(x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or np.unique(first).size < _LEAST:
        msg = "a line needs two arrays of one length with at least two different x"
        raise InvalidInput(msg)
    if not bool(np.isfinite(first).all() and np.isfinite(second).all()):
        msg = "a line needs finite numbers"
        raise InvalidInput(msg)
    return first, second


def _explained(x: FloatArray, y: FloatArray, slope: float, intercept: float) -> float:
    total = float(np.sum((y - y.mean()) ** 2))
    return 1.0 - float(np.sum((y - slope * x - intercept) ** 2)) / total if total > 0.0 else 1.0


def fit_line(x: ArrayLike, y: ArrayLike) -> Line:
    """Fit a least-squares line, both models of the published calibration.

    Raises
    ------
    InvalidInput
        On fewer than two different x, other shapes, or numbers that are not finite.

    Examples
    --------
    >>> fit_line([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
    Line(slope=2.0, intercept=1.0, r_squared=1.0)
    """
    first, second = _points(x, y)
    # Centred: with x up to 20,000 the normal equations lose digits that the published slopes have.
    centred = first - first.mean()
    slope = float(centred @ (second - second.mean()) / (centred @ centred))
    intercept = float(second.mean() - slope * first.mean())
    return Line(slope, intercept, _explained(first, second, slope, intercept))


def fit_robust(x: ArrayLike, y: ArrayLike) -> Line:
    """Fit the line of median pairwise slopes (Theil-Sen): up to 29% of bad points do not turn it.

    References
    ----------
    Sen 1968, "Estimates of the regression coefficient based on Kendall's tau".

    Examples
    --------
    >>> line = fit_robust([0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 5.0, 7.0, 900.0])
    >>> line.slope, line.intercept
    (2.0, 1.0)
    """
    first, second = _points(x, y)
    fit = stats.theilslopes(second, first, method="joint")
    slope, intercept = float(fit[0]), float(fit[1])
    return Line(slope, intercept, _explained(first, second, slope, intercept))


def fit_band(x: ArrayLike, totals: ArrayLike, *, coverage: float = 0.99) -> Band:
    """Fit lower and upper lines to the totals of several honest users.

    Parameters
    ----------
    x
        Numbers of queries, ``[n]``.
    totals
        Totals of each user at them, ``[users, n]``.
    coverage
        Share of users between the lines, in (0, 1); quantiles over users at each x.

    Examples
    --------
    >>> band = fit_band([0.0, 10.0], [[0.0, 10.0], [0.0, 20.0]], coverage=0.98)
    >>> round(band.upper.slope, 2), band.excess([10.0, 10.0], [5.0, 25.0]).round(1)
    (1.99, array([0. , 5.1]))
    """
    values = np.asarray(totals, dtype=np.float64)
    if values.ndim != 2 or not len(values) or not 0.0 < coverage < 1.0:  # noqa: PLR2004 - users by points
        msg = "a band needs totals [users, n] and a coverage in (0, 1)"
        raise InvalidInput(msg)
    tail = (1.0 - coverage) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail], axis=0)
    return Band(fit_line(x, low), fit_line(x, high))
