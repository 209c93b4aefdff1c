"""Top-down path finding with incomplete queries: from the root, one node after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.extraction.exact.paths.boxes import Box, Boxes
from assay.extraction.exact.paths.grid import MISSING, Grid, Integers
from assay.extraction.exact.paths.probing import Identities, Search, nearest_change, run_together
from assay.extraction.exact.paths.surround import Looks, surround

__all__ = ["search_down"]

_FILLS = 4


@dataclass(frozen=True, eq=False)
class _Entry:
    """An incomplete query and the box in which its features may move."""

    point: Integers
    region: Box


@dataclass(frozen=True, eq=False)
class _Visit:
    """What a node turned out to be, and where to go on from it."""

    box: Box
    identity: int
    witness: Integers
    leaf: bool
    entries: tuple[_Entry, ...]


def search_down(
    grid: Grid,
    ask: Identities,
    found: Boxes,
    rng: np.random.Generator,
    *,
    looks: Looks | None = None,
    arity: int = 1,
    most: int = 100_000,
) -> bool:
    """Find leaves from the root downwards, all nodes of one depth side by side.

    An incomplete query stops at the node that splits on a missing feature. Of a node that
    was reached with the features of its path, (i) grouped questions show whether those
    features hide a further split below them (Tramer et al. 2016, section 4.2, "missed
    splits"); (ii) filling in all missing features tells a leaf from a split; (iii) filling
    in half of them at a time finds the feature of the split in ``log2(d)`` questions; (iv) a
    line search finds its threshold. Where the service tells which features a node looks at,
    (ii) and (iii) cost nothing. Identities need only differ along a path.

    Parameters
    ----------
    grid, ask
        Where and whom to ask; queries may leave features out.
    found
        Gets the boxes of the leaves.
    rng
        Draws the values that fill missing features.
    looks
        From an identity to the features that a node and the path to it look at.
    arity
        See `assay.extraction.exact.paths.probing.nearest_change`.
    most
        Largest number of boxes.

    Returns
    -------
    bool
        False if ``most`` was reached.
    """
    fills = grid.random(_FILLS, rng)
    level = [_Entry(np.full(grid.size, MISSING, np.int64), Box.whole(grid))]
    nodes = Boxes(grid)
    while level:
        points = np.stack([entry.point for entry in level])
        identities = ask(points)
        known = nodes.locate(points, identities) >= 0
        waiting = [(e, int(i)) for e, i, skip in zip(level, identities, known, strict=True) if not skip]
        chosen: dict[int, _Entry] = {}
        level = []
        for entry, identity in waiting:
            if identity in chosen:
                level.append(entry)  # perhaps the same node, reached twice
            else:
                chosen[identity] = entry
        if len(found) + len(chosen) > most:
            return False
        visits = [_visit(grid, entry, fills, looks, arity) for entry in chosen.values()]
        for visit in run_together(visits, ask):
            nodes.add(visit.box, visit.identity, visit.witness)
            if visit.leaf:
                found.add(visit.box, visit.identity, visit.witness)
            level += visit.entries
    return True


def _visit(grid: Grid, entry: _Entry, fills: Integers, looks: Looks | None, arity: int) -> Search[_Visit]:
    """Explore one node: its box in the features of its path, and its own split."""
    around = yield from surround(grid, entry.point, entry.region, looks=looks, arity=arity)
    box, home = around.box, around.identity
    entries = [_Entry(c.point, _beside(grid, entry, box, c.point, c.feature)) for c in around.crossings]
    missing = entry.point == MISSING
    if looks is None:
        split = yield from _split(entry.point, home, missing, fills)
    else:
        asked_for = np.flatnonzero(looks(home) & missing)
        split = int(asked_for[0]) if len(asked_for) else None
    if split is None:
        witness = np.where(missing, fills[0], entry.point)
        return _Visit(box, home, witness, leaf=True, entries=tuple(entries))
    for positions in (yield from _parts(grid, entry.point, split, fills, arity)):
        moved = entry.point.copy()
        moved[split] = positions[-1]
        if grid.categorical[split]:
            child = box.having(split, positions)
        else:
            child = box.within(split, positions[0], positions[-1])
        entries.append(_Entry(moved, child))
    return _Visit(box, home, entry.point, leaf=False, entries=tuple(entries))


def _split(point: Integers, home: int, missing: np.ndarray, fills: Integers) -> Search[int | None]:
    """Find the one missing feature whose value lets the evaluation go on; None at a leaf."""
    suspects = np.flatnonzero(missing)
    for fill in fills if len(suspects) else ():
        if int((yield np.where(missing, fill, point)[None])[0]) == home:
            continue
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            moved = point.copy()
            moved[half] = fill[half]
            suspects = half if int((yield moved[None])[0]) != home else suspects[len(half) :]
        return int(suspects[0])
    return None


def _parts(grid: Grid, point: Integers, split: int, fills: Integers, arity: int) -> Search[list[list[int]]]:
    """Divide a feature's positions by the child that they lead to.

    Ordered features: the first and last position of each side. Children whose identities
    are equal are told apart by what lies below them, under several completions.
    """
    top = int(grid.levels[split])
    wanted = range(top + 1) if grid.categorical[split] else (0, top)
    for base in [point, *(np.where(point == MISSING, fill, point) for fill in fills)]:
        points = np.repeat(base[None], len(wanted), 0)
        points[:, split] = list(wanted)
        identities = yield points
        if grid.categorical[split]:
            groups: dict[int, list[int]] = {}
            for position, identity in zip(wanted, identities, strict=True):
                groups.setdefault(int(identity), []).append(position)
            if len(groups) > 1:
                return list(groups.values())
        elif identities[0] != identities[1]:
            start = base.copy()
            start[split] = 0
            [(last, first)] = yield from nearest_change(start, int(identities[0]), [(split, 0, top)], arity)
            assert first is not None
            return [[0, last], [first, top]]
    return [list(wanted)]


def _beside(grid: Grid, entry: _Entry, box: Box, point: Integers, feature: int) -> Box:
    """Return where the features may move for a point across one side of a node's box."""
    at, region = int(point[feature]), entry.region
    if grid.categorical[feature]:
        inside = set(box.categories(grid, feature))
        return region.having(feature, [c for c in region.categories(grid, feature) if c not in inside])
    if at < box.low[feature]:
        return region.within(feature, int(region.low[feature]), at)
    return region.within(feature, at, int(region.high[feature]))
