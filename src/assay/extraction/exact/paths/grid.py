"""The lattice of inputs on which a tree is searched: whole-number positions, one per step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput

__all__ = ["MISSING", "Floats", "Grid", "Integers"]

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

MISSING = -1
"""Position of a feature that a query leaves out."""

_MOST_CATEGORIES = 62  # sets of categories are bits of one int64
_MOST_LEVELS = 2**52


@dataclass(frozen=True, eq=False)
class Grid:
    """Positions ``0 .. levels`` of every feature and the values they stand for.

    Parameters
    ----------
    low, high
        Smallest and largest value of each feature, float64 ``[d]``, ``low < high``.
    step
        Distance of neighbouring positions, float64 ``[d]``, at most the span.
    categorical
        Features whose values are codes ``low, low + 1, ...`` without order, bool ``[d]``.
    whole
        Features that have no values between positions, bool ``[d]``.

    Raises
    ------
    InvalidInput
        For empty, infinite or unordered ranges, and more than 62 categories.

    Examples
    --------
    >>> grid = Grid.between([0.0, -1.0], [1.0, 1.0], 0.25)
    >>> grid.levels.tolist(), grid.values(np.array([[1, MISSING], [4, 4]])).tolist()
    ([4, 4], [[0.25, nan], [1.0, 1.0]])
    """

    low: Floats
    high: Floats
    step: Floats
    categorical: NDArray[np.bool_]
    whole: NDArray[np.bool_]

    @classmethod
    def between(
        cls,
        low: Floats | list[float],
        high: Floats | list[float],
        epsilon: float,
        *,
        whole: tuple[int, ...] = (),
        categorical: tuple[int, ...] = (),
    ) -> Grid:
        """Build a grid whose step is a share of each range, 1 for whole numbers and categories."""
        lows, highs = np.array(low, np.float64), np.array(high, np.float64)
        if lows.ndim != 1 or lows.shape != highs.shape or not len(lows):
            msg = f"a grid needs one low and one high value a feature, got {lows.shape} and {highs.shape}"
            raise InvalidInput(msg)
        for index in (*whole, *categorical):
            if not 0 <= index < len(lows):
                msg = f"feature {index} does not exist; there are {len(lows)} (0 to {len(lows) - 1})"
                raise InvalidInput(msg)
        codes, fixed = np.zeros(len(lows), bool), np.zeros(len(lows), bool)
        codes[list(categorical)] = True
        fixed[[*whole, *categorical]] = True
        return cls(lows, highs, np.where(fixed, 1.0, epsilon * (highs - lows)), codes, fixed)

    def __post_init__(self) -> None:
        span = self.high - self.low
        if not np.isfinite(self.low + self.high).all() or not (span > 0).all():
            bad = int(np.argmin(np.isfinite(span) & (span > 0)))
            msg = (
                f"feature {bad} has the range {self.low[bad]:g} to {self.high[bad]:g}; a search for paths "
                "needs a finite one with low < high"
            )
            raise InvalidInput(msg)
        if (
            not ((self.step > 0) & (self.step <= span * (1 + 1e-9))).all()
            or (self.levels > _MOST_LEVELS).any()
        ):
            msg = "the step of a grid must be positive, at most the range, and at least 2^-52 of it"
            raise InvalidInput(msg)
        if (self.levels[self.categorical] >= _MOST_CATEGORIES).any():
            msg = (
                f"a categorical feature may have at most {_MOST_CATEGORIES} categories; encode it as columns"
            )
            raise InvalidInput(msg)

    @property
    def size(self) -> int:
        """Number of features."""
        return len(self.low)

    @cached_property
    def levels(self) -> Integers:
        """Largest position of each feature, int64 ``[d]``."""
        # Rounding up would leave the box; the last step may be shorter than the others.
        found: Integers = np.ceil((self.high - self.low) / self.step - 1e-6).astype(np.int64)
        return found

    def values(self, positions: Integers) -> Floats:
        """Return the inputs of positions ``[n, d]``; missing features are NaN."""
        raw = np.minimum(self.low + positions * self.step, self.high)
        return np.where(positions == MISSING, np.nan, raw)

    def random(self, rows: int, rng: np.random.Generator) -> Integers:
        """Draw positions uniformly, int64 ``[rows, d]``."""
        drawn: Integers = rng.integers(0, self.levels + 1, (rows, self.size))
        return drawn
