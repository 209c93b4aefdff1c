"""How precise answers are: all of float64, float32, or a few decimals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Grain", "find_grain"]

_MOST_DIGITS, _FLOAT32_DIGITS = 9, 5
_FEWEST = 3  # a constant answer such as 0.5 is no sign of rounding
_FLOAT32 = 2.0**-24
_FLOAT64 = 2.0**-53


@dataclass(frozen=True)
class Grain:
    """The resolution of scores.

    Parameters
    ----------
    digits
        Decimals, or None if scores are not rounded.
    step
        Largest error of a single score near 1.

    Examples
    --------
    >>> find_grain(np.array([[0.13, 0.87], [0.5, 0.5]])).digits
    2
    >>> find_grain(np.array([[1 / 3, 2 / 3]])).digits is None
    True
    """

    digits: int | None
    step: float

    @property
    def rounded(self) -> bool:
        """Whether scores are rounded to decimals."""
        return self.digits is not None

    @property
    def title(self) -> str:
        """Plain words: ``"float64"``, ``"float32"``, ``"3 decimals"``."""
        if self.digits is not None:
            return f"{self.digits} decimals"
        return "float64" if self.step == _FLOAT64 else "float32"


def find_grain(scores: np.ndarray) -> Grain:
    """Return the coarsest resolution with which all scores ``[n, c]`` agree.

    Scores that are all 0 or 1, or take fewer than 3 values between, say nothing about
    decimals and count as unrounded.
    """
    values = np.unique(scores[(scores > 0) & (scores < 1)])
    for digits in range(_MOST_DIGITS + 1) if len(values) >= _FEWEST else ():
        # Decimals that passed through float32 are off by its resolution.
        noise = _FLOAT32 if digits <= _FLOAT32_DIGITS else 1e-12
        if np.abs(values - np.round(values, digits)).max() <= noise:
            return Grain(digits, 0.5 * 10.0**-digits)
    single = len(values) > 0 and bool((values == values.astype(np.float32)).all())
    return Grain(None, _FLOAT32 if single else _FLOAT64)
