"""Samples for the report: distributions, paths of the sum, and bills as they grow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from assay.gateway.calibrate.record import Histogram
from assay.gateway.policy import Policy
from assay.gateway.simulation import Profile, play

__all__ = ["bills", "histograms", "paths"]

Floats = NDArray[np.float64]

_BINS = 40
_PATHS, _PATH_QUERIES = 6, 300
_ACCOUNTS, _BILL_QUERIES = 24, 2000
_BURST = 8.0


def histograms(samples: Mapping[str, Floats], *, log: bool = False) -> tuple[Histogram, ...]:
    """Return shares in common bins, spaced evenly, or evenly in the logarithm.

    Examples
    --------
    >>> found = histograms({"a": np.array([0.0, 1.0]), "b": np.array([1.0])})
    >>> found[0].shares[0], found[1].shares[-1]
    (0.5, 1.0)
    """
    pooled = np.concatenate(list(samples.values()))
    low, high = float(pooled.min()), float(pooled.max())
    if not low < high:
        high = low + max(abs(low), 1.0)
    edges = np.geomspace(low, high, _BINS + 1) if log and low > 0 else np.linspace(low, high, _BINS + 1)
    edges[0], edges[-1] = low, high  # rounding must not leave the ends outside
    shown = tuple(float(f"{e:.6g}") for e in edges)
    return tuple(
        Histogram(name, shown, tuple(round(float(s), 6) for s in np.histogram(x, edges)[0] / len(x)))
        for name, x in samples.items()
    )


def paths(
    policy: Policy, doubts: Mapping[str, Floats], *, rng: int = 0
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Return some paths of the cumulative sum for each profile and pool."""
    generator = np.random.default_rng([rng, 3])
    found = {}
    for name, x in doubts.items():
        sums = play(policy, _streams(name, x, generator, _PATHS, _PATH_QUERIES)).sums
        found[name] = tuple(tuple(round(float(v), 3) for v in path) for path in sums)
    return found


def bills(
    policy: Policy, doubts: Mapping[str, Floats], *, rng: int = 0
) -> tuple[tuple[int, ...], dict[str, tuple[float, ...]]]:
    """Return numbers of queries, and the mean units paid after each by one account, deposit included."""
    generator = np.random.default_rng([rng, 5])
    counts = np.unique(np.geomspace(1, _BILL_QUERIES, 60).round().astype(int))
    paid = {}
    for name, x in doubts.items():
        units = play(policy, _streams(name, x, generator, _ACCOUNTS, _BILL_QUERIES)).units.cumsum(1).mean(0)
        total = policy.pricing.deposit_units + units[counts - 1]
        paid[name] = tuple(float(f"{v:.6g}") for v in total)
    return tuple(int(n) for n in counts), paid


def _streams(name: str, x: Floats, generator: np.random.Generator, accounts: int, queries: int) -> Floats:
    return Profile(name, x, burst=_BURST if name == "bursty" else 1.0).draw(generator, accounts, queries)
