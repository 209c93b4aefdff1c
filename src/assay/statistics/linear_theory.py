"""The linear model in which dataset inference can be worked out by hand.

Labels are fair signs y; an input has a part ``y u`` that carries the label and a part
``x2 ~ N(0, sigma^2 I_D)`` that carries nothing. One gradient pass at rate 1 from zero
over m points leaves ``w2 = sum(y_i x2_i)``: the model remembers the noise of its own
training points. Margin = y f(x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from assay.errors import InvalidInput
from assay.result import Record
from assay.statistics.inputs import FloatArray, Rng, as_count

__all__ = [
    "OwnershipRates",
    "margin_gap",
    "membership_accuracy",
    "ownership_accuracy",
    "ownership_rates",
    "simulate_gap",
    "simulate_membership",
]


@dataclass(frozen=True)
class OwnershipRates(Record):
    """Monte Carlo of the fixed-threshold decision of Theorem 3.

    Parameters
    ----------
    stolen
        Share of stolen models that are called stolen.
    independent
        Share of independent models that are not.
    stolen_variance, independent_variance
        Variance of the statistic in each arm, in units of ``sigma^4``: 3 D and 2 D.
    """

    stolen: float
    independent: float
    stolen_variance: float
    independent_variance: float


def margin_gap(
    dimension: int,
    sigma: float,
    *,
    points: int = 1,
    rate: float = 1.0,
    aggregate: Literal["sum", "mean"] = "sum",
) -> float:
    """Theorem 1: expected margin on training points minus expected margin on fresh ones.

    Parameters
    ----------
    dimension
        D, at least 1.
    sigma
        Standard deviation of the noise coordinates, at least 0.
    points
        Training points m; matters only if the gradient is averaged.
    rate
        Learning rate.
    aggregate
        Whether the pass sums or averages the gradients of the points.

    Returns
    -------
    float
        ``rate D sigma^2``, over m if averaged. It does not depend on m otherwise.

    Raises
    ------
    InvalidInput
        If an argument is out of range.

    References
    ----------
    Maini et al. 2021, "Dataset Inference", Theorem 1.

    Examples
    --------
    >>> margin_gap(20, 0.5)
    5.0
    """
    dimension, points = as_count(dimension, "dimension"), as_count(points, "points")
    if not sigma >= 0.0:
        msg = f"sigma must be >= 0, got {sigma!r}"
        raise InvalidInput(msg)
    return rate * dimension * sigma**2 / (points if aggregate == "mean" else 1)


def membership_accuracy(dimension: int, samples: int) -> float:
    """Theorem 2: accuracy of the best threshold on the margin of one single point.

    Parameters
    ----------
    dimension
        D, at least 1.
    samples
        Training points m, at least 1.

    Returns
    -------
    float
        ``Phi(sqrt(D / m) / 2)``: near 0.5 once m is much larger than D.

    Raises
    ------
    InvalidInput
        If an argument is out of range.

    References
    ----------
    Maini et al. 2021, "Dataset Inference", Theorem 2.

    Examples
    --------
    >>> round(membership_accuracy(900, 50_000), 5)
    0.52674
    """
    ratio = as_count(dimension, "dimension") / as_count(samples, "samples")
    return _normal(math.sqrt(ratio) / 2.0)


def ownership_accuracy(dimension: int, arm: Literal["independent", "stolen"] = "independent") -> float:
    """Theorem 3 in the normal approximation, with the variance that belongs to each arm.

    The threshold is half the expected gap, ``D sigma^2 / 2``. The statistic has variance
    ``2 D sigma^4`` for an independent model, which gives the published formula, but
    ``3 D sigma^4`` for a stolen one. Neither depends on m or sigma. The error rate is not
    controlled at any alpha: it is 14 % at D = 8.

    Parameters
    ----------
    dimension
        D, at least 1.
    arm
        ``"independent"``: probability of not accusing an independent model. ``"stolen"``:
        of accusing a stolen one.

    Returns
    -------
    float
        ``Phi(sqrt(D / 2) / 2)`` or ``Phi(sqrt(D / 3) / 2)``.

    Raises
    ------
    InvalidInput
        If an argument is out of range.

    References
    ----------
    Maini et al. 2021, "Dataset Inference", Theorem 3.

    Examples
    --------
    >>> round(ownership_accuracy(32), 5)
    0.97725
    """
    dimension = as_count(dimension, "dimension")
    if arm not in ("independent", "stolen"):
        msg = f'arm must be "independent" or "stolen", got {arm!r}'
        raise InvalidInput(msg)
    return _normal(math.sqrt(dimension / (2.0 if arm == "independent" else 3.0)) / 2.0)


def ownership_rates(dimension: int, draws: int = 100_000, rng: Rng = 0) -> OwnershipRates:
    """Success rates of the fixed threshold under the exact laws of both arms.

    With g, h, g' standard normal in D dimensions the statistic over ``sigma^2`` is
    ``|g|^2 - g.h`` for a stolen and ``g'.(g - h)`` for an independent model.

    Parameters
    ----------
    dimension
        D, at least 1.
    draws
        Models per arm, at least 2.
    rng
        Seed or generator.

    Returns
    -------
    OwnershipRates
        Success rates and variances.

    Raises
    ------
    InvalidInput
        If an argument is out of range.

    Examples
    --------
    >>> rates = ownership_rates(32, 20_000)
    >>> 0.955 < rates.stolen < rates.independent < 0.985
    True
    """
    dimension, draws = as_count(dimension, "dimension"), as_count(draws, "draws", least=2)
    generator = np.random.default_rng(rng)
    # Given |g|^2 = q, g.h is N(0, q): no D-dimensional vector has to be drawn.
    square = generator.chisquare(dimension, size=draws)
    stolen = square - np.sqrt(square) * generator.standard_normal(draws)
    square = generator.chisquare(dimension, size=draws)
    independent = np.sqrt(2.0 * square) * generator.standard_normal(draws)
    threshold = dimension / 2.0
    return OwnershipRates(
        stolen=float(np.mean(stolen > threshold)),
        independent=float(np.mean(independent < threshold)),
        stolen_variance=float(stolen.var(ddof=1)),
        independent_variance=float(independent.var(ddof=1)),
    )


def simulate_gap(samples: int, dimension: int, sigma: float, repeats: int = 1000, rng: Rng = 0) -> FloatArray:
    """Train the linear model and measure the mean margin gap, many times.

    Parameters
    ----------
    samples
        Training points m, and as many fresh points.
    dimension
        D, at least 1.
    sigma
        Standard deviation of the noise coordinates, at least 0.
    repeats
        Independent models.
    rng
        Seed or generator.

    Returns
    -------
    numpy.ndarray
        Mean margin on the training points minus on the fresh ones, shape ``[repeats]``.

    Raises
    ------
    InvalidInput
        If an argument is out of range.

    Examples
    --------
    >>> gaps = simulate_gap(50, 20, 0.5, repeats=500)
    >>> bool(abs(gaps.mean() - margin_gap(20, 0.5)) < 0.3)
    True
    """
    gaps = np.empty(as_count(repeats, "repeats"))
    generator = np.random.default_rng(rng)
    for index in range(gaps.size):
        inside, outside = _margins(samples, dimension, sigma, generator)
        gaps[index] = inside.mean() - outside.mean()
    return gaps


def simulate_membership(samples: int, dimension: int, repeats: int = 100, rng: Rng = 0) -> float:
    """Accuracy of the midpoint threshold on single points of trained linear models.

    Parameters
    ----------
    samples
        Training points m, and as many fresh points.
    dimension
        D, at least 1.
    repeats
        Independent models.
    rng
        Seed or generator.

    Returns
    -------
    float
        Share of points, half of them members, that are told right.

    Raises
    ------
    InvalidInput
        If an argument is out of range.

    Examples
    --------
    >>> 0.54 < simulate_membership(200, 20, repeats=100) < 0.58
    True
    """
    repeats = as_count(repeats, "repeats")
    generator = np.random.default_rng(rng)
    right = 0.0
    for _ in range(repeats):
        inside, outside = _margins(samples, dimension, 1.0, generator)
        # Both margins contain the same share m from the label-carrying part.
        threshold = samples + dimension / 2.0
        right += float(np.mean(inside > threshold) + np.mean(outside <= threshold)) / 2.0
    return right / repeats


def _margins(
    samples: int, dimension: int, sigma: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Train one model by a gradient pass; return margins on its own and on fresh points."""
    m, width = as_count(samples, "samples"), as_count(dimension, "dimension")
    if not sigma >= 0.0:
        msg = f"sigma must be >= 0, got {sigma!r}"
        raise InvalidInput(msg)
    signs = rng.choice([-1.0, 1.0], size=(2, m))
    # First coordinate: y u with u = 1, the part that carries the label.
    x = np.concatenate([signs[..., None], rng.normal(0.0, sigma, size=(2, m, width))], axis=-1)
    weight = signs[0] @ x[0]
    margins = signs * (x @ weight)
    return margins[0], margins[1]


def _normal(z: float) -> float:
    """Return the standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))
