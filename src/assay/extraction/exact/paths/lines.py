"""Bottom-up path finding as published: a line search along every feature of every leaf."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from assay.extraction.exact.paths.boxes import Box, Boxes
from assay.extraction.exact.paths.grid import Grid, Integers
from assay.extraction.exact.paths.probing import Identities, Search, between, run_together
from assay.extraction.exact.paths.surround import Crossing, Found

__all__ = ["cross", "search_lines"]


@dataclass
class _Line:
    """One feature of one leaf: the positions known so far and their identities."""

    feature: int
    known: dict[int, int]

    def open(self) -> list[tuple[int, int]]:
        """Return the gaps between known positions of different identity."""
        order = sorted(self.known)
        return [(a, b) for a, b in itertools.pairwise(order) if b - a > 1 and self.known[a] != self.known[b]]


def cross(grid: Grid, point: Integers, arity: int = 1) -> Search[Found]:
    """Search the whole line through a point along every feature, all lines at once.

    The ends of every line are asked first, with the point itself as an inner one;
    segments whose ends agree are taken for constant, the others are cut until every
    change lies between two neighbouring positions (Tramer et al. 2016, algorithm 1). A
    categorical feature is asked about every category.

    Parameters
    ----------
    grid
        Where to search.
    point
        Positions ``[d]``, none missing.
    arity
        Positions asked a round in each segment.
    """
    home = int((yield point[None])[0])
    lines = [_Line(feature, {int(point[feature]): home}) for feature in range(grid.size)]
    first: list[tuple[_Line, int]] = []
    for line in lines:
        top = int(grid.levels[line.feature])
        wanted = range(top + 1) if grid.categorical[line.feature] else (0, top)
        first += [(line, position) for position in wanted if position not in line.known]
    probes = first
    while probes:
        points = np.repeat(point[None], len(probes), 0)
        for row, (line, position) in enumerate(probes):
            points[row, line.feature] = position
        identities = yield points
        for (line, position), identity in zip(probes, identities, strict=True):
            line.known[position] = int(identity)
        probes = [
            (line, position)
            for line in lines
            if not grid.categorical[line.feature]
            for a, b in line.open()
            for position in between(a, b, arity)
        ]
    box, crossings = Box.whole(grid), []
    for line in lines:
        box, others = _own(grid, box, line, int(point[line.feature]))
        for position in others:
            moved = point.copy()
            moved[line.feature] = position
            crossings.append(Crossing(moved, line.feature))
    return Found(box, home, point, tuple(crossings))


def search_lines(
    grid: Grid,
    ask: Identities,
    found: Boxes,
    starts: Iterable[Integers],
    *,
    arity: int = 1,
    most: int = 100_000,
) -> bool:
    """Find leaves bottom-up with full line searches; parameters as in `search_neighbours`."""
    waiting = list(starts)
    while waiting:
        points = np.stack(waiting)
        identities = ask(points)
        known = found.locate(points, identities) >= 0
        chosen: dict[int, Integers] = {}
        later = []
        for point, identity in zip(points[~known], identities[~known], strict=True):
            if int(identity) in chosen:
                later.append(point)
            else:
                chosen[int(identity)] = point
        waiting = later
        if len(found) + len(chosen) > most:
            return False
        for result in run_together([cross(grid, point, arity) for point in chosen.values()], ask):
            found.add(result.box, result.identity, result.witness)
            waiting += [crossing.point for crossing in result.crossings]
        if found.only_points() and grid.size > 1:
            return False
    return True


def _own(grid: Grid, box: Box, line: _Line, at: int) -> tuple[Box, list[int]]:
    """Cut the box to the point's own interval; return one position of every other."""
    home = line.known[at]
    if grid.categorical[line.feature]:
        inside = [c for c, identity in line.known.items() if identity == home]
        groups = {identity: c for c, identity in sorted(line.known.items(), reverse=True) if identity != home}
        return box.having(line.feature, inside), sorted(groups.values())
    order = sorted(line.known)
    intervals: list[tuple[int, int]] = []
    start = order[0]
    for a, b in zip(order, [*order[1:], None], strict=True):
        if b is None or line.known[a] != line.known[b]:
            intervals.append((start, a))
            start = b if b is not None else a
    low, high = next((a, b) for a, b in intervals if a <= at <= b)
    others = [b for a, b in intervals if not a <= at <= b]
    return box.within(line.feature, low, high), others
