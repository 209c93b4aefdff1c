"""So many a second, and no more saved up than one second brings."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Allowance"]


class Allowance:
    """A token bucket that holds what one second brings.

    Parameters
    ----------
    left
        At first.
    clock
        Seconds; never runs back.

    Examples
    --------
    >>> allowance = Allowance(2.0, clock=lambda: 0.0)
    >>> allowance.take(2.0), allowance.take(2.0), allowance.take(2.0)
    (True, True, False)
    """

    def __init__(self, left: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._left, self._clock, self._filled = left, clock, clock()

    def take(self, rate: float) -> bool:
        """Take one, at a rate per second that may have changed; False if none is left."""
        now = self._clock()
        self._left = min(rate, self._left + (now - self._filled) * rate)
        self._filled = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
