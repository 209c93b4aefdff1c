"""Where inputs live: a box, categories, and whether features may be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.errors import InvalidInput

__all__ = ["Domain"]


@dataclass(frozen=True, eq=False)
class Domain:
    """The inputs that a service accepts, as its documentation states them.

    Parameters
    ----------
    low, high
        Limits of each feature, float64 ``[d]``, finite, ``low < high``. A categorical
        feature has ``low == 0`` and ``high == k - 1``.
    categories
        For each feature the number ``k`` of categories, whose codes are 0.0 to
        ``k - 1``; 0 for a continuous feature. Empty if all are continuous.

    Raises
    ------
    InvalidInput
        If limits and categories do not fit together.

    Examples
    --------
    >>> box = Domain.box(2, -1.0, 1.0)
    >>> box.size, box.centre.tolist(), box.uniform(3, np.random.default_rng(0)).shape
    (2, [0.0, 0.0], (3, 2))
    >>> Domain(np.zeros(2), np.array([5.0, 2.0]), (0, 3)).contains(np.array([[0.5, 2.0], [0.5, 1.5]]))
    array([ True, False])
    """

    low: np.ndarray
    high: np.ndarray
    categories: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        low = np.array(self.low, dtype=np.float64).reshape(-1)
        high = np.array(self.high, dtype=np.float64).reshape(-1)
        kinds = tuple(int(k) for k in self.categories) or (0,) * len(low)
        if not len(low) or low.shape != high.shape or len(kinds) != len(low):
            msg = f"a domain needs one low, high and kind for each feature, got {len(low)}, {len(high)}"
            raise InvalidInput(msg)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            bad = int(np.argmin(np.isfinite(low) & np.isfinite(high) & (low < high)))
            msg = f"feature {bad} of the domain spans [{low[bad]:g}, {high[bad]:g}]; give finite low < high"
            raise InvalidInput(msg)
        for i, k in enumerate(kinds):
            if k and (k < 2 or low[i] != 0 or high[i] != k - 1):  # noqa: PLR2004 - one category is none
                msg = f"categorical feature {i} must have at least 2 categories and span [0, {k - 1}]"
                raise InvalidInput(msg)
        low.setflags(write=False)
        high.setflags(write=False)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        object.__setattr__(self, "categories", kinds)

    @classmethod
    def box(cls, size: int, low: float = -1.0, high: float = 1.0) -> Domain:
        """Return the cube ``[low, high]^size`` of continuous features."""
        return cls(np.full(size, float(low)), np.full(size, float(high)))

    @classmethod
    def parse(cls, text: str, size: int) -> Domain:
        """Return the domain that ``LOW,HIGH`` (one box) or ``FEATURE;FEATURE;...`` names.

        A feature is ``LOW,HIGH``, or a single whole number: so many categories.

        Examples
        --------
        >>> domain = Domain.parse("0,1;-2,2;3", 3)
        >>> domain.high.tolist(), domain.categories
        ([1.0, 2.0, 2.0], (0, 0, 3))
        """
        parts = [part.strip() for part in text.split(";")]
        parts = parts * size if len(parts) == 1 else parts
        kinds = [int(part) if part.isdecimal() else 0 for part in parts]
        try:
            pairs = [
                (0.0, k - 1.0) if k else tuple(float(v) for v in part.split(","))
                for part, k in zip(parts, kinds, strict=True)
            ]
        except ValueError:
            pairs = [()]
        if len(pairs) != size or any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004 - low, high
            msg = (
                f"a domain is LOW,HIGH, or LOW,HIGH (a number of categories) for each of {size} features "
                f"with semicolons between, got {text!r}"
            )
            raise InvalidInput(msg)
        return cls(np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]), tuple(kinds))

    @property
    def size(self) -> int:
        """Number of features."""
        return len(self.low)

    @property
    def span(self) -> np.ndarray:
        """Width of each feature, float64 ``[d]``."""
        width: np.ndarray = self.high - self.low
        return width

    @property
    def centre(self) -> np.ndarray:
        """Middle of the box, float64 ``[d]``; a whole code for categorical features."""
        middle = self.low + 0.5 * self.span
        whole: np.ndarray = np.where(self.continuous, middle, np.floor(middle))
        return whole

    @property
    def continuous(self) -> np.ndarray:
        """Which features are continuous, bool ``[d]``."""
        which: np.ndarray = np.array(self.categories) == 0
        return which

    def uniform(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        """Draw float64 ``[rows, d]``, every feature and category on its own."""
        x = rng.uniform(self.low, self.high, (rows, self.size))
        for i in np.flatnonzero(~self.continuous):
            x[:, i] = rng.integers(self.categories[i], size=rows)
        return x

    def clip(self, x: np.ndarray) -> np.ndarray:
        """Return ``x`` moved into the box; missing features stay missing."""
        return np.asarray(np.clip(x, self.low, self.high))

    def contains(self, x: np.ndarray) -> np.ndarray:
        """Return which rows lie in the domain, bool ``[n]``; a missing feature lies in it."""
        inside = (x >= self.low) & (x <= self.high)
        inside &= self.continuous | (x == np.rint(x))
        return np.asarray((inside | np.isnan(x)).all(axis=1))

    @classmethod
    def of(cls, size: int, value_range: Sequence[float] | None) -> Domain:
        """Return the box of a data set's value range, ``[-1, 1]`` where it is unknown or endless."""
        if value_range is None or not np.isfinite(value_range).all():
            return cls.box(size)
        return cls.box(size, *value_range)
