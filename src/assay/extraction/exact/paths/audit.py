"""Checking found boxes, and mending those that duplicate identities made too wide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from assay.extraction.exact.paths.boxes import Box, Boxes
from assay.extraction.exact.paths.grid import Grid, Integers
from assay.extraction.exact.paths.partition import partition
from assay.extraction.exact.paths.probing import Identities, Search, nearest_change, run_together

__all__ = ["audit", "overlaps"]

_SPREAD = 100


def audit(
    grid: Grid,
    ask: Identities,
    found: Boxes,
    explore: Callable[[list[Integers]], bool],
    rng: np.random.Generator,
    *,
    samples: int,
    passes: int,
) -> int:
    """Look for contradictions until there are none, and mend each of them.

    Leaves of one identity can hide a leaf between them, so that a box comes out too wide.
    Three questions find that out: a random point of the box answers with another identity;
    two boxes overlap; no box holds a point at all. A box that is too wide is cut where the
    identity changes on the way from the point it was found from to the offending one, and
    the search goes on from there.

    Parameters
    ----------
    grid, ask, found
        As in `assay.extraction.exact.paths.neighbours.search_neighbours`.
    explore
        Searches on from a list of points; false if it may not go on.
    rng
        Draws the points.
    samples
        Random points for every box that is new or was cut, 0 for none. Until a pass finds
        nothing wrong, at least one point a feature is asked, and 100 where identities repeat.
    passes
        Largest number of rounds of questions and repairs.

    Returns
    -------
    int
        Passes that found something, ``passes`` if the last one still did.
    """
    checked: dict[int, Box] = {}
    clean = False
    for done in range(passes):
        points = [np.empty((0, grid.size), np.int64)]
        often = Counter(found.identities)
        common = 2 * len(often) <= len(found)
        for index, (box, identity) in enumerate(zip(found.boxes, found.identities, strict=True)):
            if checked.get(index) is not box:
                # A category that leads to another leaf of this identity was taken for one of this leaf.
                draw = box.spread if samples and (common or often[identity] > 1) else box.random
                points.append(draw(grid, samples, rng))
                checked[index] = box
        if samples and not clean:
            # Points of boxes are few where boxes are large; these find what is missing by volume.
            doubtful = len(set(found.identities)) < len(found)
            spread = _SPREAD if doubtful else max(0, grid.size - samples * len(found))
            points.append(grid.random(spread, rng))
        points += [box.random(grid, 1, rng) for box in overlaps(found)]
        if sum(map(len, points)) == 0:
            holes = [piece.region for piece in partition(found).leaves() if not piece.boxes]
            if not holes:
                return done
            points += [hole.random(grid, 1, rng) for hole in holes]
        drawn = np.concatenate(points)
        identities = ask(drawn)
        repairs, targets = [], []
        for index, (box, identity) in enumerate(zip(found.boxes, found.identities, strict=True)):
            wrong = np.flatnonzero(box.contains(grid, drawn) & (identities != identity))
            if len(wrong):
                targets.append(index)
                repairs.append(_walk(grid, found.witnesses[index], identity, drawn[wrong[0]], rng))
        starts = list(drawn)
        for index, cut in zip(targets, run_together(repairs, ask), strict=True):
            feature, inside, outside, crossing = cut
            found.boxes[index] = _cut(grid, found.boxes[index], feature, inside, outside)
            starts.append(crossing)
        clean = not targets
        if not explore(starts):
            return passes
    return passes


def overlaps(found: Boxes) -> list[Box]:
    """Return the common part of every pair of boxes that overlap with different identities."""
    grid, parts = found.grid, []
    low, high, sets, names = found.arrays()
    for index in range(len(found) - 1):
        rest = slice(index + 1, None)
        lows, highs = np.maximum(low[index], low[rest]), np.minimum(high[index], high[rest])
        common = sets[index] & sets[rest]
        meet = (lows <= highs).all(1) & (names[rest] != names[index])
        meet &= (common[:, grid.categorical] != 0).all(1)
        parts += [Box(lows[k], highs[k], common[k]) for k in np.flatnonzero(meet)]
    return parts


def _walk(
    grid: Grid, start: Integers, home: int, end: Integers, rng: np.random.Generator
) -> Search[tuple[int, int, int, Integers]]:
    """Find a side of the leaf of ``start`` between it and a point with another identity.

    Features are moved one after another in random order; bisection over how many of them
    have moved finds one whose move changes the identity (Lowd and Meek 2005).
    """
    order = rng.permutation(np.flatnonzero(start != end))
    same, other = 0, len(order)
    while other - same > 1:
        middle = (same + other) // 2
        moved = start.copy()
        moved[order[:middle]] = end[order[:middle]]
        if int((yield moved[None])[0]) == home:
            same = middle
        else:
            other = middle
    base = start.copy()
    base[order[:same]] = end[order[:same]]
    feature = int(order[same])
    inside, outside = int(base[feature]), int(end[feature])
    if not grid.categorical[feature]:
        [(inside, first)] = yield from nearest_change(base, home, [(feature, inside, outside)], 1)
        outside = outside if first is None else first
    crossing = base.copy()
    crossing[feature] = outside
    return feature, inside, outside, crossing


def _cut(grid: Grid, box: Box, feature: int, inside: int, outside: int) -> Box:
    """Return the part of a box on the inner side of a side that it did not know."""
    if grid.categorical[feature]:
        return box.having(feature, [c for c in box.categories(grid, feature) if c != outside])
    if outside > inside:
        return box.within(feature, int(box.low[feature]), inside)
    return box.within(feature, inside, int(box.high[feature]))
