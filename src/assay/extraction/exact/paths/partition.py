"""From boxes to a tree: the fewest splits that separate what was found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from assay.extraction.exact.paths.boxes import Box, Boxes
from assay.extraction.exact.paths.grid import Grid, Integers

__all__ = ["Piece", "partition", "simplify"]


@dataclass(eq=False)
class Piece:
    """A node of a tree over the grid.

    Parameters
    ----------
    region
        The inputs that reach it.
    feature
        What it splits on; -1 for a leaf.
    position
        Ordered features: positions up to this one go left. Categorical ones: this
        category goes right, all others left.
    children
        Left and right piece of a split.
    boxes
        Leaves: indices of the found boxes that cover it; empty where nothing was found.
    """

    region: Box
    feature: int = -1
    position: int = 0
    children: tuple[Piece, ...] = ()
    boxes: tuple[int, ...] = field(default=())

    def leaves(self) -> list[Piece]:
        """Return the leaves below, from left to right."""
        return [self] if not self.children else [leaf for child in self.children for leaf in child.leaves()]


def partition(found: Boxes) -> Piece:
    """Build a tree whose leaves are covered by the same boxes throughout.

    Each split is the one that cuts through the fewest boxes (and, among those, divides
    them most evenly). The root split of the tree that the boxes came from cuts through
    none, and so on down, so that complete and correct boxes give a tree with as many leaves.

    Examples
    --------
    >>> grid = Grid.between([0.0], [1.0], 0.25)
    >>> found = Boxes(grid)
    >>> found.add(Box.whole(grid).within(0, 0, 1), 0, np.array([0]))
    >>> found.add(Box.whole(grid).within(0, 3, 4), 1, np.array([4]))
    >>> [leaf.boxes for leaf in partition(found).leaves()]
    [(0,), (), (1,)]
    """
    grid = found.grid
    every = np.arange(len(found))
    low, high, sets, names = found.arrays()
    root = Piece(Box.whole(grid))
    waiting = [(root, every)]
    while waiting:
        piece, members = waiting.pop()
        best = None
        if len(members) and not _settled(
            piece.region, low[members], high[members], sets[members], names[members]
        ):
            best = _best_split(grid, piece.region, low[members], high[members], sets[members])
        if best is None:
            piece.boxes = tuple(int(m) for m in members)
            continue
        feature, position = best
        piece.feature, piece.position = feature, position
        region = piece.region
        if grid.categorical[feature]:
            rest = [c for c in region.categories(grid, feature) if c != position]
            halves = (region.having(feature, rest), region.having(feature, [position]))
            right = (sets[members, feature] >> position & 1).astype(bool)
            left = (sets[members, feature] & halves[0].sets[feature]) != 0
        else:
            halves = (
                region.within(feature, int(region.low[feature]), position),
                region.within(feature, position + 1, int(region.high[feature])),
            )
            left = low[members, feature] <= position
            right = high[members, feature] > position
        piece.children = (Piece(halves[0]), Piece(halves[1]))
        waiting += [(piece.children[0], members[left]), (piece.children[1], members[right])]
    return root


def simplify(found: Boxes, piece: Piece) -> float:
    """Merge neighbouring leaves of one identity and fill what nobody found, in place.

    A leaf without a box gets the identity of the largest leaf beside it. Where wrong
    boxes overlap, the smallest counts: it was cut more often.

    Returns
    -------
    float
        Share of the grid that had to be filled.
    """
    grid = found.grid
    if not piece.children:
        if not piece.boxes:
            return piece.region.share(grid)
        piece.boxes = (min(piece.boxes, key=lambda index: found.boxes[index].share(grid)),)
        return 0.0
    left, right = piece.children
    filled = simplify(found, left) + simplify(found, right)
    for empty, other in ((left, right), (right, left)):
        if not empty.children and not empty.boxes:
            largest = max((leaf for leaf in other.leaves()), key=lambda leaf: leaf.region.share(grid))
            empty.boxes = largest.boxes
    names = {found.identities[index] for child in (left, right) for index in child.boxes}
    if not left.children and not right.children and len(names) <= 1:
        piece.feature, piece.children, piece.boxes = -1, (), left.boxes
    return filled


def _settled(region: Box, low: Integers, high: Integers, sets: Integers, names: Integers) -> bool:
    """Whether all boxes have one identity and one of them covers the region: no split is needed."""
    if (names != names[0]).any():
        return False
    covers = (low <= region.low).all(1) & (high >= region.high).all(1)
    return bool((covers & ((region.sets & ~sets) == 0).all(1)).any())


def _best_split(
    grid: Grid, region: Box, low: Integers, high: Integers, sets: Integers
) -> tuple[int, int] | None:
    """Return feature and position of the split that cuts the fewest boxes, None if no side is inside."""
    best: tuple[int, int, int, int] | None = None
    inner = ((low > region.low) | (high < region.high)).any(0) | grid.categorical
    for feature in map(int, np.flatnonzero(inner)):
        if grid.categorical[feature]:
            allowed = int(region.sets[feature])
            inside = sets[:, feature] & allowed
            if (inside == allowed).all():
                continue
            options = [
                (c, (inside >> c & 1).astype(bool), (inside & ~(1 << c)) != 0)
                for c in region.categories(grid, feature)
            ]
            scored = [
                (int((one & rest).sum()), abs(int(one.sum()) - int(rest.sum())), feature, c)
                for c, one, rest in options
                if (one != rest).any() or not one.all()
            ]
        else:
            lows, highs = np.sort(low[:, feature]), np.sort(high[:, feature])
            cuts = np.unique(
                np.concatenate([lows[lows > region.low[feature]] - 1, highs[highs < region.high[feature]]])
            )
            left = np.searchsorted(lows, cuts, side="right")
            right = len(highs) - np.searchsorted(highs, cuts, side="right")
            scored = [
                (int(a + b - len(lows)), abs(int(a) - int(b)), feature, int(cut))
                for a, b, cut in zip(left, right, cuts, strict=True)
            ]
        if scored and (best is None or min(scored) < best):
            best = min(scored)
    return None if best is None else (best[2], best[3])
