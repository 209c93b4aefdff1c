"""How often honest users raise an alarm, and the threshold that makes it rare enough.

The path of a cumulative sum falls into excursions above 0. One pass over a long stream
gives the peak of each, and with them the mean interval between alarms for *all*
thresholds at once: the length of the stream over the number of peaks above it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.gateway.policy import Pricing
from assay.gateway.pricing.cusum import increments
from assay.gateway.pricing.rule import FloatArray
from assay.gateway.simulation.streams import Profile

__all__ = ["ThresholdFit", "alarm_interval", "drift", "excursion_peaks", "fit_threshold"]

_TARGET = 100_000.0
_LENGTH = 4_000_000
_BLOCK = 500_000
_FEWEST_PEAKS = 20
_LEAST_THRESHOLD = 1.0


def drift(pricing: Pricing, profile: Profile) -> float:
    """Return the mean step of the sum on a profile; an honest one must be negative.

    Examples
    --------
    >>> pricing = Pricing(llr_edges=(-2.0,), llr_values=(-0.5, 1.5))
    >>> drift(pricing, Profile("p", np.array([-9.0, -9.0, -9.0, -1.0])))
    0.0
    """
    steps = increments(pricing, profile.log_q)
    return float(steps.mean() if profile.weights is None else profile.weights @ steps)


def excursion_peaks(steps: ArrayLike) -> FloatArray:
    """Return the peak of each excursion of the sum above 0, for one stream ``[n]``.

    Examples
    --------
    >>> excursion_peaks([1.0, -2.0, 1.0, 1.0, -0.5, -9.0, -1.0])
    array([1., 2.])
    """
    total = np.cumsum(np.asarray(steps, dtype=np.float64))
    path = total - np.minimum(0.0, np.minimum.accumulate(total))
    above = path > 0.0
    begins = np.flatnonzero(above & ~np.concatenate([[False], above[:-1]]))
    return np.maximum.reduceat(path, begins) if begins.size else np.empty(0)


def _peaks(pricing: Pricing, profile: Profile, rng: np.random.Generator, queries: int) -> FloatArray:
    """Return peaks of a long stream, drawn in blocks of bounded memory."""
    blocks = [
        excursion_peaks(increments(pricing, profile.draw(rng, 1, min(_BLOCK, queries - done))[0]))
        for done in range(0, queries, _BLOCK)
    ]
    return np.concatenate(blocks)


def alarm_interval(
    pricing: Pricing, profile: Profile, *, queries: int = _LENGTH, rng: int | np.random.Generator = 0
) -> float:
    """Return the mean number of queries between alarms of honest users of this profile.

    ``inf`` if ``queries`` of them raised none.

    Examples
    --------
    >>> pricing = Pricing(llr_edges=(-2.0,), llr_values=(-1.0, 1.0), threshold=4.5, up=4.0, down=2.0)
    >>> pool = np.array([-9.0, -9.0, -9.0, -1.0])
    >>> 600 < alarm_interval(pricing, Profile("p", pool), queries=400_000) < 900
    True
    """
    peaks = _peaks(pricing, profile, np.random.default_rng(rng), queries)
    alarms = int(np.count_nonzero(peaks > pricing.threshold))
    return queries / alarms if alarms else math.inf


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """A threshold and the mean intervals between alarms at it.

    Parameters
    ----------
    threshold
        Smallest one at which every profile meets the target.
    intervals
        Mean queries between alarms per profile (``inf``: none in the stream).
    """

    threshold: float
    intervals: dict[str, float] = field(default_factory=dict)


def fit_threshold(
    pricing: Pricing,
    profiles: Iterable[Profile],
    *,
    target: float = _TARGET,
    queries: int = _LENGTH,
    rng: int | np.random.Generator = 0,
) -> ThresholdFit:
    """Find the smallest threshold with at least ``target`` honest queries between alarms.

    Parameters
    ----------
    pricing
        With its likelihood ratios, ``up`` and ``down``.
    profiles
        Honest profiles; the worst one decides.
    target
        Mean queries between alarms, of each profile.
    queries
        Length of the simulated stream per profile.
    rng
        Seed or generator.

    Raises
    ------
    InvalidInput
        If a profile drifts upwards: no threshold helps a sum that grows on honest traffic.

    Examples
    --------
    >>> pricing = Pricing(llr_edges=(-2.0,), llr_values=(-1.0, 1.0), up=4.0, down=2.0)
    >>> profile = Profile("p", np.array([-9.0, -9.0, -9.0, -1.0]))
    >>> fit = fit_threshold(pricing, [profile], target=1000.0, queries=400_000)
    >>> fit.threshold, fit.intervals["p"] >= 1000.0
    (5.0, True)
    """
    generator = np.random.default_rng(rng)
    found: dict[str, FloatArray] = {}
    for profile in profiles:
        mean = drift(pricing, profile)
        if mean >= 0.0 and bool(np.any(increments(pricing, profile.log_q) > 0.0)):
            msg = (
                f"the cumulative sum grows on the honest profile {profile.name!r} (mean step {mean:+.3f}); "
                "lower the log likelihood ratios until it falls there too, or leave the profile out"
            )
            raise InvalidInput(msg)
        found[profile.name] = np.sort(_peaks(pricing, profile, generator, queries))
    threshold = max((_level(peaks, queries / target) for peaks in found.values()), default=_LEAST_THRESHOLD)
    intervals = {}
    for name, peaks in found.items():
        alarms = peaks.size - int(np.searchsorted(peaks, threshold, side="right"))
        intervals[name] = queries / alarms if alarms else math.inf
    return ThresholdFit(threshold, intervals)


def _level(peaks: FloatArray, allowed: float) -> float:
    """Return the level that at most ``allowed`` sorted peaks exceed, at least 1."""
    if allowed >= peaks.size:
        return _LEAST_THRESHOLD
    if allowed >= _FEWEST_PEAKS:
        return max(_LEAST_THRESHOLD, float(peaks[peaks.size - 1 - int(allowed)]))
    # Fewer peaks than that are noise: the tail of excursions is geometric, so it is extended.
    few = min(_FEWEST_PEAKS, peaks.size - 1)
    many = min(10 * few, peaks.size - 1)
    high, low = float(peaks[-1 - few]), float(peaks[-1 - many])
    slope = (high - low) / math.log(many / few) if many > few else 0.0
    return max(_LEAST_THRESHOLD, high + slope * math.log(few / max(allowed, 1e-9)))
