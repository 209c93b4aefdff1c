"""The box of one leaf from the inside: grouped moves first, line searches only where a side exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.extraction.exact.paths.boxes import Box
from assay.extraction.exact.paths.grid import Grid, Integers
from assay.extraction.exact.paths.probing import Item, Search, failing, nearest_change

__all__ = ["Crossing", "Found", "Looks", "surround"]

Looks: TypeAlias = Callable[[int], NDArray[np.bool_]]
"""From an identity to the features of its path, bool ``[d]``."""


@dataclass(frozen=True, eq=False)
class Crossing:
    """A point just outside a box, across one of its sides.

    Parameters
    ----------
    point
        Positions ``[d]``.
    feature
        The feature in which it differs from a point inside.
    """

    point: Integers
    feature: int


@dataclass(frozen=True, eq=False)
class Found:
    """A box with its identity, the point from which it was found, and points across its sides."""

    box: Box
    identity: int
    witness: Integers
    crossings: tuple[Crossing, ...]


def surround(
    grid: Grid,
    point: Integers,
    region: Box,
    *,
    guess: Box | None = None,
    looks: Looks | None = None,
    arity: int = 1,
) -> Search[Found]:
    """Find the box around a point in which the identity stays the same.

    Parameters
    ----------
    grid
        Where to search.
    point
        Positions ``[d]``; features that are missing stay missing and are not searched.
    region
        Where the search ends.
    guess
        A box that is expected to be right or nearly so, such as the one of the leaf next
        door; each of its sides costs one question if it is.
    looks
        From an identity to the only features that its path looks at, where the service
        tells them.
    arity
        See `nearest_change`.
    """
    home = int((yield point[None])[0])
    used = None if looks is None else looks(home)
    present = [int(f) for f in np.flatnonzero(point >= 0) if used is None or used[f]]
    inside: set[Item] = {(feature, int(point[feature])) for feature in present}
    outside: set[Item] = set()

    expected = list(_targets(grid, point, present, region if guess is None else guess, region))
    wrong = yield from failing(point, home, _layers(expected))
    inside |= set(expected) - wrong
    if guess is not None:
        beyond = list(_beyond(grid, point, present, guess, region, wrong))
        outer = yield from failing(point, home, [[item] for item in beyond])
        outside |= outer
        wider = set(beyond) - outer
        inside |= wider
        ends = [
            (f, int(region.low[f] if p < point[f] else region.high[f]))
            for f, p in sorted(wider)
            if not grid.categorical[f]
        ]
        ends = [item for item in ends if item not in inside]
        far = yield from failing(point, home, _layers(ends))
        inside |= set(ends) - far
        wrong |= far

    sides = _Sides(grid, point, inside)
    brackets = []
    for feature, position in sorted(wrong):
        if grid.categorical[feature]:
            outside.add((feature, position))
        else:
            brackets.append((feature, sides.towards(feature, position), position))
    changes = yield from nearest_change(point, home, brackets, arity)
    for (feature, _, target), (last, first) in zip(brackets, changes, strict=True):
        sides.move(feature, target, last)
        if first is not None:
            outside.add((feature, first))
    box = sides.box(region, present)
    return Found(box, home, point, tuple(_crossing(point, item) for item in sorted(outside)))


class _Sides:
    """How far each feature was seen to move without leaving the leaf."""

    def __init__(self, grid: Grid, point: Integers, inside: set[Item]) -> None:
        self.grid, self.point, self.inside = grid, point, inside
        self.low, self.high = point.copy(), point.copy()
        for feature, position in inside:
            self.low[feature] = min(self.low[feature], position)
            self.high[feature] = max(self.high[feature], position)

    def towards(self, feature: int, position: int) -> int:
        """Return the last position known to be inside on the way to another."""
        return int(self.low[feature] if position < self.point[feature] else self.high[feature])

    def move(self, feature: int, position: int, last: int) -> None:
        """Set the side that lies towards a position."""
        (self.low if position < self.point[feature] else self.high)[feature] = last

    def box(self, region: Box, present: list[int]) -> Box:
        """Return the box; features that were not searched keep the region."""
        box = region
        for feature in present:
            if self.grid.categorical[feature]:
                box = box.having(feature, [p for f, p in self.inside if f == feature])
            else:
                box = box.within(feature, int(self.low[feature]), int(self.high[feature]))
        return box


def _crossing(point: Integers, item: Item) -> Crossing:
    moved = point.copy()
    moved[item[0]] = item[1]
    return Crossing(moved, item[0])


def _targets(grid: Grid, point: Integers, present: list[int], box: Box, region: Box) -> Iterable[Item]:
    """Yield the moves to every side of a box (and into every category of it)."""
    for feature in present:
        at = int(point[feature])
        if grid.categorical[feature]:
            allowed = set(region.categories(grid, feature))
            yield from ((feature, c) for c in box.categories(grid, feature) if c != at and c in allowed)
            continue
        low = max(int(box.low[feature]), int(region.low[feature]))
        high = min(int(box.high[feature]), int(region.high[feature]))
        if low < at:
            yield feature, low
        if high > at:
            yield feature, high


def _beyond(
    grid: Grid, point: Integers, present: list[int], guess: Box, region: Box, wrong: set[Item]
) -> Iterable[Item]:
    """Yield the moves just across every side of a box that was not found too wide."""
    for feature in present:
        at = int(point[feature])
        if grid.categorical[feature]:
            known = set(guess.categories(grid, feature))
            yield from ((feature, c) for c in region.categories(grid, feature) if c not in known and c != at)
            continue
        for end, limit, side in (
            (int(guess.low[feature]), int(region.low[feature]), -1),
            (int(guess.high[feature]), int(region.high[feature]), 1),
        ):
            # A guess that does not reach the point says nothing about this side but where to look.
            end_here = min(end, at) if side < 0 else max(end, at)
            if (end_here - limit) * side < 0 and (feature, end_here) not in wrong:
                yield feature, end_here + side


def _layers(items: Iterable[Item]) -> list[list[Item]]:
    """Arrange moves so that no feature is moved twice in one group."""
    layers: list[list[Item]] = []
    depth: dict[int, int] = {}
    for feature, position in items:
        level = depth.get(feature, 0)
        depth[feature] = level + 1
        if level == len(layers):
            layers.append([])
        layers[level].append((feature, position))
    return layers
