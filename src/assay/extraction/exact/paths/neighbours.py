"""Bottom-up search for leaves with grouped questions and the neighbour's box as a guess."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from assay.extraction.exact.paths.boxes import Box, Boxes
from assay.extraction.exact.paths.grid import Grid, Integers
from assay.extraction.exact.paths.probing import Identities, run_together
from assay.extraction.exact.paths.surround import Looks, surround

__all__ = ["search_neighbours"]


def search_neighbours(
    grid: Grid,
    ask: Identities,
    found: Boxes,
    starts: Iterable[Integers],
    *,
    arity: int = 1,
    looks: Looks | None = None,
    together: int = 0,
    most: int = 100_000,
) -> bool:
    """Find every leaf that can be reached from the starting points, crossing side after side.

    Crossing a side of a leaf's box leads into the leaf next door. Both usually share most of
    the splits above them, so that the known box is the guess for the new one: two grouped
    questions check that the new leaf is at least as wide, one question a side checks that
    it is not wider, and only sides of its own are searched for. While no identity was found
    in two places, points in boxes that are known already are answered from the boxes.

    Parameters
    ----------
    grid, ask
        Where and whom to ask.
    found
        Gets the boxes; points in boxes that it already holds are not searched again.
    starts
        Points ``[d]`` to start from.
    arity
        See `assay.extraction.exact.paths.probing.nearest_change`.
    looks
        See `assay.extraction.exact.paths.surround.surround`.
    together
        Leaves searched side by side, 0 for all that are waiting: more cost fewer rounds and,
        where two of them are the same leaf behind duplicate identities, more questions.
    most
        Largest number of boxes.

    Returns
    -------
    bool
        False if ``most`` was reached, or answers change at every step.
    """
    whole = Box.whole(grid)
    waiting: list[tuple[Integers, Box | None]] = [(point, None) for point in starts]
    while waiting:
        infer = _inferring(ask, found)
        points = np.stack([point for point, _ in waiting])
        identities = infer(points)
        known = found.locate(points, identities) >= 0
        waiting = [entry for entry, skip in zip(waiting, known, strict=True) if not skip]
        chosen: dict[int, tuple[Integers, Box | None]] = {}
        later = []
        for entry, identity in zip(waiting, identities[~known], strict=True):
            # One search an identity: the second of two points may be in the first one's box.
            if int(identity) in chosen or (together and len(chosen) >= together):
                later.append(entry)
            else:
                chosen[int(identity)] = entry
        waiting = later
        if len(found) + len(chosen) > most:
            return False
        searches = [
            surround(grid, point, whole, guess=guess, looks=looks, arity=arity)
            for point, guess in chosen.values()
        ]
        for result in run_together(searches, infer):
            found.add(result.box, result.identity, result.witness)
            for crossing in result.crossings:
                waiting.append((crossing.point, _guess(grid, result.box, crossing.point, crossing.feature)))
        if found.only_points() and grid.size > 1:
            return False
    return True


def _inferring(ask: Identities, found: Boxes) -> Callable[[Integers], Integers]:
    """Return a way to ask that spends nothing on points of known boxes, where boxes can be trusted."""
    if not len(found) or len(set(found.identities)) < len(found):
        return ask
    names = np.array(found.identities, np.int64)

    def infer(points: Integers) -> Integers:
        index = found.locate(points)
        identities = names[index]
        unknown = index < 0
        if unknown.any():
            identities[unknown] = ask(points[unknown])
        return identities

    return infer


def _guess(grid: Grid, box: Box, point: Integers, feature: int) -> Box:
    """Return what the leaf at ``point``, across one side of ``box``, probably looks like."""
    at = int(point[feature])
    if grid.categorical[feature]:
        return box.having(feature, [at])
    if at < box.low[feature]:
        return box.within(feature, 0, at)
    return box.within(feature, at, int(grid.levels[feature]))
