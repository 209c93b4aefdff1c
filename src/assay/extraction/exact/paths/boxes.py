"""Products of intervals and category sets: the inputs that reach one leaf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.extraction.exact.paths.grid import Grid, Integers

__all__ = ["Box", "Boxes"]

_CELLS = 2**22  # comparisons of points with boxes at a time


@dataclass(frozen=True, eq=False)
class Box:
    """What a path of a tree asks of an input.

    Parameters
    ----------
    low, high
        First and last position of each feature that is inside, int64 ``[d]``.
    sets
        Bit ``v`` says whether category ``v`` is inside, int64 ``[d]``; read for
        categorical features only.

    Examples
    --------
    >>> grid = Grid.between([0.0, 0.0], [1.0, 2.0], 0.5, categorical=(1,))
    >>> box = Box.whole(grid).within(0, 0, 1).having(1, [0, 2])
    >>> box.contains(grid, np.array([[1, 2], [1, 1], [2, 0]])).tolist()
    [True, False, False]
    >>> box.share(grid)
    0.4444444444444444
    """

    low: Integers
    high: Integers
    sets: Integers

    @classmethod
    def whole(cls, grid: Grid) -> Box:
        """Return the box of all inputs."""
        return cls(np.zeros(grid.size, np.int64), grid.levels, (1 << np.minimum(grid.levels + 1, 62)) - 1)

    @classmethod
    def around(cls, grid: Grid, point: Integers) -> Box:
        """Return the box of one point; features that it leaves out stay open."""
        box = cls.whole(grid)
        for feature in map(int, np.flatnonzero(point >= 0)):
            if grid.categorical[feature]:
                box = box.having(feature, [int(point[feature])])
            else:
                box = box.within(feature, int(point[feature]), int(point[feature]))
        return box

    def within(self, feature: int, low: int, high: int) -> Box:
        """Return the box with another interval of an ordered feature."""
        lows, highs = self.low.copy(), self.high.copy()
        lows[feature], highs[feature] = low, high
        return Box(lows, highs, self.sets)

    def having(self, feature: int, categories: list[int]) -> Box:
        """Return the box with another set of categories of a categorical feature."""
        sets = self.sets.copy()
        sets[feature] = sum(1 << c for c in set(categories))
        return Box(self.low, self.high, sets)

    def categories(self, grid: Grid, feature: int) -> list[int]:
        """Return the categories inside, ascending."""
        return [c for c in range(int(grid.levels[feature]) + 1) if int(self.sets[feature]) >> c & 1]

    def contains(self, grid: Grid, points: Integers) -> NDArray[np.bool_]:
        """Tell which of the points ``[n, d]`` are inside, bool ``[n]``."""
        inside: NDArray[np.bool_] = np.logical_and.reduce(
            (points >= self.low) & (points <= self.high), axis=1
        )
        if grid.categorical.any():
            codes = points[:, grid.categorical].clip(min=0)
            allowed = ((self.sets[grid.categorical] >> codes) & 1).astype(bool)
            inside &= np.logical_and.reduce(allowed, axis=1)
        return inside

    def share(self, grid: Grid) -> float:
        """Return the share of all grid points that is inside, 0 to 1."""
        inside = (self.high - self.low + 1) / (grid.levels + 1)
        for feature in np.flatnonzero(grid.categorical):
            inside[feature] = len(self.categories(grid, int(feature))) / (grid.levels[feature] + 1)
        return float(np.prod(inside))

    def random(self, grid: Grid, rows: int, rng: np.random.Generator) -> Integers:
        """Draw points inside uniformly, int64 ``[rows, d]``."""
        points: Integers = rng.integers(self.low, self.high + 1, (rows, grid.size))
        for feature in np.flatnonzero(grid.categorical):
            points[:, feature] = rng.choice(self.categories(grid, int(feature)), rows)
        return points

    def spread(self, grid: Grid, rows: int, rng: np.random.Generator) -> Integers:
        """Draw points inside so that every category of the box occurs, int64 ``[rows or more, d]``.

        >>> grid = Grid.between([0.0, 0.0], [1.0, 2.0], 0.5, categorical=(1,))
        >>> points = Box.whole(grid).spread(grid, 2, np.random.default_rng(0))
        >>> sorted(points[:, 1].tolist())
        [0, 1, 2]
        """
        sets = {int(f): self.categories(grid, int(f)) for f in np.flatnonzero(grid.categorical)}
        rows = max(rows, *(len(categories) for categories in sets.values())) if sets else rows
        points: Integers = rng.integers(self.low, self.high + 1, (rows, grid.size))
        for feature, categories in sets.items():
            points[:, feature] = rng.permutation(np.resize(rng.permutation(categories), rows))
        return points


class Boxes:
    """Found boxes with the identity of the leaf that each belongs to.

    Examples
    --------
    >>> grid = Grid.between([0.0], [1.0], 0.25)
    >>> found = Boxes(grid)
    >>> found.add(Box.whole(grid).within(0, 0, 1), 7, np.array([1]))
    >>> found.locate(np.array([[1], [2]])).tolist()
    [0, -1]
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.boxes: list[Box] = []
        self.identities: list[int] = []
        self.witnesses: list[Integers] = []

    def __len__(self) -> int:
        return len(self.boxes)

    def add(self, box: Box, identity: int, witness: Integers) -> None:
        """Remember a box, its identity, and a point inside that was asked."""
        self.boxes.append(box)
        self.identities.append(identity)
        self.witnesses.append(witness)

    def locate(self, points: Integers, identities: Integers | None = None) -> Integers:
        """Return the position of the first box that holds each point, -1 for none.

        Where ``identities`` of the points are given, only boxes of the same identity count.
        """
        points = np.maximum(points, 0)  # a box has no sides in features that its query leaves out
        first = np.full(len(points), -1, np.int64)
        if not len(self):
            return first
        low, high, sets, names = self.arrays()
        codes = np.flatnonzero(self.grid.categorical)
        chunk = max(1, _CELLS // low.size)
        for start in range(0, len(points), chunk):
            part = points[start : start + chunk]
            reached = (part[:, None] >= low) & (part[:, None] <= high)
            inside: NDArray[np.bool_] = np.logical_and.reduce(reached, axis=2)
            for feature in codes:
                inside &= (sets[:, feature] >> part[:, None, feature] & 1).astype(bool)
            if identities is not None:
                inside = inside & (names == identities[start : start + chunk, None])
            hit = inside.argmax(1)
            first[start : start + chunk] = np.where(inside.any(1), hit, -1)
        return first

    def arrays(self) -> tuple[Integers, Integers, Integers, Integers]:
        """Return lows, highs and sets of all boxes, int64 ``[m, d]``, and identities ``[m]``."""
        shape = (-1, self.grid.size)
        return (
            np.array([box.low for box in self.boxes], np.int64).reshape(shape),
            np.array([box.high for box in self.boxes], np.int64).reshape(shape),
            np.array([box.sets for box in self.boxes], np.int64).reshape(shape),
            np.array(self.identities, np.int64),
        )

    def only_points(self) -> bool:
        """Whether no box is wider than one position: answers that change everywhere are no tree's."""
        ordered = ~self.grid.categorical
        return bool(self.boxes and ordered.any()) and all(
            (box.low == box.high)[ordered].all() for box in self.boxes
        )

    def merge(self) -> int:
        """Join boxes of one identity whose union is a box; return how many went.

        A leaf that was reached on two sides of a split elsewhere is found in two parts, and a
        box that was cut may lie inside one that was found later.
        """
        before = len(self)
        by_name: dict[int, list[int]] = {}
        for index, name in enumerate(self.identities):
            by_name.setdefault(name, []).append(index)
        gone: set[int] = set()
        for group in by_name.values():
            joined = True
            while joined:
                joined = False
                alive = [index for index in group if index not in gone]
                for position, one in enumerate(alive):
                    for other in alive[position + 1 :]:
                        union = _union(self.grid, self.boxes[one], self.boxes[other])
                        if union is not None and one not in gone and other not in gone:
                            self.boxes[one] = union
                            gone.add(other)
                            joined = True
        kept = [index for index in range(before) if index not in gone]
        self.boxes = [self.boxes[index] for index in kept]
        self.identities = [self.identities[index] for index in kept]
        self.witnesses = [self.witnesses[index] for index in kept]
        return before - len(self)


def _union(grid: Grid, one: Box, other: Box) -> Box | None:
    """Return the union of two boxes if it is a box."""
    for inner, outer in ((one, other), (other, one)):
        if _within(grid, inner, outer):
            return outer
    ordered = ~grid.categorical
    differ = ((one.low != other.low) | (one.high != other.high)) & ordered
    differ |= (one.sets != other.sets) & grid.categorical
    features = np.flatnonzero(differ)
    if len(features) > 1:
        return None
    feature = int(features[0])
    if grid.categorical[feature]:
        sets = one.sets.copy()
        sets[feature] |= other.sets[feature]
        return Box(one.low, one.high, sets)
    low = int(min(one.low[feature], other.low[feature]))
    high = int(max(one.high[feature], other.high[feature]))
    meet = max(one.low[feature], other.low[feature]) <= min(one.high[feature], other.high[feature]) + 1
    return one.within(feature, low, high) if meet else None


def _within(grid: Grid, inner: Box, outer: Box) -> bool:
    """Whether one box lies in another."""
    inside = (inner.low >= outer.low).all() and (inner.high <= outer.high).all()
    return bool(inside and ((inner.sets & ~outer.sets)[grid.categorical] == 0).all())
