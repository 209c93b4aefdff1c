"""Many line searches at once on class labels: one call of the oracle serves all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from assay.errors import InvalidInput

__all__ = ["Brackets", "bisect"]

_MOST_BITS = 52  # below that, both ends of a bracket are the same float64
_MOST_FAN_OUT = 8


@dataclass(frozen=True, eq=False)
class Brackets:
    """Pairs of close inputs between which the label changes.

    Parameters
    ----------
    near, far
        The two ends, float64 ``[n, d]``.
    near_labels, far_labels
        Their labels, int64 ``[n]``, different in every row.
    """

    near: np.ndarray
    far: np.ndarray
    near_labels: np.ndarray
    far_labels: np.ndarray

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.near)

    @property
    def middle(self) -> np.ndarray:
        """Centre of each bracket, a point within half its width of the boundary."""
        centre: np.ndarray = (self.near + self.far) / 2
        return centre

    @property
    def facets(self) -> np.ndarray:
        """The two classes that meet, smaller one first, int64 ``[n, 2]``."""
        return np.sort(np.c_[self.near_labels, self.far_labels], axis=1)

    def joined(self, other: Brackets) -> Brackets:
        """Return these brackets followed by ``other``."""
        return Brackets(
            np.r_[self.near, other.near],
            np.r_[self.far, other.far],
            np.r_[self.near_labels, other.near_labels],
            np.r_[self.far_labels, other.far_labels],
        )


def bisect(
    labels: Callable[[np.ndarray], np.ndarray],
    ends: Brackets,
    bits: int,
    *,
    fan_out: int = 1,
) -> Brackets:
    """Shrink every bracket to ``2**-bits`` of its length.

    Parameters
    ----------
    labels
        Rows ``[m, d]`` to classes ``[m]``; called ``ceil(bits / fan_out)`` times.
    ends
        Pairs with different labels.
    bits
        Halvings, 0 to 52.
    fan_out
        Halvings a round, 1 to 8: a round asks ``2**fan_out - 1`` points of every bracket,
        which trades queries for round trips.

    Returns
    -------
    Brackets
        The first change of label seen from the near end at the finest grid that was
        searched; the far label may be another one than at the start, where several
        classes meet on the way.

    Raises
    ------
    InvalidInput
        For numbers out of range.

    Examples
    --------
    >>> ends = Brackets(np.array([[0.0]]), np.array([[1.0]]), np.array([0]), np.array([1]))
    >>> found = bisect(lambda x: (x[:, 0] > 0.3).astype(int), ends, 20)
    >>> round(float(found.middle[0, 0]), 5)
    0.3
    """
    if not 0 <= bits <= _MOST_BITS or not 1 <= fan_out <= _MOST_FAN_OUT:
        msg = f"bits must be 0 to {_MOST_BITS} and fan_out 1 to {_MOST_FAN_OUT}, got {bits} and {fan_out}"
        raise InvalidInput(msg)
    n, size = ends.near.shape
    way = ends.far - ends.near
    low, width = np.zeros(n), np.ones(n)
    far_labels = ends.far_labels.copy()
    left = bits if n else 0
    while left:
        cells = 2 ** min(fan_out, left)
        left -= min(fan_out, left)
        # Fractions of the whole way are dyadic and exact, so that no rounding piles up.
        inner = low[:, None] + width[:, None] * np.arange(1, cells) / cells
        probes = ends.near[:, None] + inner[:, :, None] * way[:, None]
        answers = np.asarray(labels(probes.reshape(-1, size))).reshape(n, cells - 1)
        seen = np.concatenate([answers, far_labels[:, None]], axis=1)
        cell = (seen != ends.near_labels[:, None]).argmax(axis=1)
        width /= cells
        low += cell * width
        far_labels = seen[np.arange(n), cell]
    return Brackets(
        ends.near + low[:, None] * way,
        ends.near + (low + width)[:, None] * way,
        ends.near_labels,
        far_labels,
    )
