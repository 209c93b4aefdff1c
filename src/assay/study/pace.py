"""How far estimates of what steps cost are off, by what finished steps took."""

from __future__ import annotations

__all__ = ["pace"]

_TRUST = 30.0  # core-seconds


def pace(measured: float, estimated: float) -> float:
    """Return by what factor estimates of further steps are to be corrected.

    Parameters
    ----------
    measured, estimated
        Seconds that the finished steps took, and were expected to take. A few seconds of
        experience say little, so that half a minute of it is needed to count half.

    Examples
    --------
    >>> pace(0, 0), round(pace(1000, 500), 1)
    (1.0, 1.9)
    """
    return (measured + _TRUST) / (estimated + _TRUST)
