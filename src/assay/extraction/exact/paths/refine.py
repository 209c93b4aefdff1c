"""Thresholds finer than the grid: one bisection for each split of the finished tree."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from assay.extraction.exact.paths.boxes import Box, Boxes
from assay.extraction.exact.paths.grid import Floats, Grid, Integers
from assay.extraction.exact.paths.partition import Piece
from assay.extraction.exact.paths.probing import Identities

__all__ = ["refine", "splits"]


def splits(root: Piece) -> list[Piece]:
    """Return the inner nodes of a tree, parents before children."""
    inner, waiting = [], [root]
    while waiting:
        piece = waiting.pop()
        if piece.children:
            inner.append(piece)
            waiting += reversed(piece.children)
    return inner


def refine(
    grid: Grid, ask: Identities, found: Boxes, root: Piece, *, precision: float, arity: int = 1
) -> tuple[dict[int, float], list[int]]:
    """Bisect the thresholds of a tree between neighbouring grid positions, all at once.

    A search on a fine grid would pay for every bit of a threshold once for every leaf that
    it bounds; here each split pays once.

    Parameters
    ----------
    grid, ask, found, root
        The finished tree and whom to ask.
    precision
        Largest width of the interval that holds a threshold, as a share of the feature's range.
    arity
        Points asked a round in each interval.

    Returns
    -------
    thresholds : dict
        From the position of a split in `splits` to its threshold; splits between whole
        numbers or categories have none.
    unsettled : list of int
        Splits that could not be refined: their sides have no neighbouring leaves with
        different identities, or a third leaf lies between two grid positions.
    """
    brackets: dict[int, _Bracket] = {}
    unsettled: list[int] = []
    for index, piece in enumerate(splits(root)):
        if grid.whole[piece.feature]:
            continue
        bracket = _bracket(grid, found, piece)
        if bracket is None:
            unsettled.append(index)
        else:
            brackets[index] = bracket
    goal = precision * (grid.high - grid.low)
    while wide := [(i, b) for i, b in brackets.items() if b.high - b.low > goal[b.feature]]:
        rows, places = [], []
        for _, bracket in wide:
            places.append(np.linspace(bracket.low, bracket.high, arity + 2)[1:-1])
            rows.append(np.repeat(bracket.row[None], arity, 0))
            rows[-1][:, bracket.feature] = places[-1]
        answers = ask.of_values(np.concatenate(rows)).reshape(len(wide), arity)
        for (index, bracket), at, names in zip(wide, places, answers, strict=True):
            if not bracket.narrow(at, names):
                unsettled.append(index)
                del brackets[index]
    return {index: 0.5 * (b.low + b.high) for index, b in brackets.items()}, unsettled


@dataclass
class _Bracket:
    """An input, and an interval of one feature in which its identity goes from one to another."""

    row: Floats
    feature: int
    low: float
    high: float
    names: tuple[int, int]

    def narrow(self, at: Floats, names: Integers) -> bool:
        """Keep the part where the identity changes; false if it is not one clean change."""
        same = names == self.names[0]
        steps = int(same.sum())
        if not same[:steps].all() or not (names[steps:] == self.names[1]).all():
            return False
        low = float(at[steps - 1]) if steps else self.low
        high = float(at[steps]) if steps < len(at) else self.high
        if (low, high) == (self.low, self.high):
            return False
        self.low, self.high = low, high
        return True


def _bracket(grid: Grid, found: Boxes, piece: Piece) -> _Bracket | None:
    """Return where to bisect the threshold of a split."""
    pair = _astride(grid, found, piece)
    if pair is None:
        return None
    point, names = pair
    ends = np.stack([point, point])
    ends[1, piece.feature] += 1
    row, other = grid.values(ends)
    return _Bracket(row, piece.feature, float(row[piece.feature]), float(other[piece.feature]), names)


def _astride(grid: Grid, found: Boxes, piece: Piece) -> tuple[Integers, tuple[int, int]] | None:
    """Return a point left of a split whose neighbour across it is another leaf, and both identities."""
    left, right = piece.children
    near = [p for p in left.leaves() if p.boxes and p.region.high[piece.feature] == piece.position]
    far = [p for p in right.leaves() if p.boxes and p.region.low[piece.feature] == piece.position + 1]
    for one, other in itertools.product(near, far):
        names = found.identities[one.boxes[0]], found.identities[other.boxes[0]]
        if names[0] == names[1]:
            continue
        low = np.maximum(one.region.low, other.region.low)
        high = np.minimum(one.region.high, other.region.high)
        low[piece.feature] = high[piece.feature] = piece.position
        common = Box(low, high, one.region.sets & other.region.sets)
        if (low <= high).all() and all(
            common.categories(grid, int(f)) for f in np.flatnonzero(grid.categorical)
        ):
            point: Integers = (low + high) // 2
            for feature in np.flatnonzero(grid.categorical):
                point[feature] = common.categories(grid, int(feature))[0]
            return point, names
    return None
