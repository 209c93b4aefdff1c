"""Asking for identities: searches that wait for answers, run side by side in shared rounds."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from assay.extraction.exact.paths.grid import Floats, Grid, Integers

__all__ = ["Identities", "Item", "Search", "between", "failing", "nearest_change", "run_together"]

T = TypeVar("T")

Search: TypeAlias = Generator[Integers, Integers, T]
"""Yields positions ``[n, d]``, is sent their identities ``[n]``, returns what it found."""

Item: TypeAlias = tuple[int, int]
"""A feature and the position to which it is moved."""


class Identities:
    """Names the leaves (or nodes) that answers come from; no position is asked twice.

    Two answers have the same identity exactly if all their numbers are equal.

    Parameters
    ----------
    grid
        Where positions lie.
    answer
        From inputs ``[n, d]`` to answers, float64 ``[n, k]``. Each call is a round trip.
    width
        Number of leading columns of an answer that make the identity; None for all.

    Examples
    --------
    >>> grid = Grid.between([0.0], [5.0], 0.1)
    >>> ask = Identities(grid, lambda x: (x > 2).astype(float))
    >>> ask(np.array([[0], [9], [1]])).tolist(), ask(np.array([[9]])).tolist(), ask.asked, ask.rounds
    ([0, 1, 0], [1], 3, 1)
    """

    def __init__(self, grid: Grid, answer: Callable[[Floats], np.ndarray], width: int | None = None) -> None:
        self.grid = grid
        self._answer, self._width = answer, width
        self._known: dict[bytes, int] = {}
        self._names: dict[bytes, int] = {}
        self.answers: list[np.ndarray] = []
        self.asked = self.rounds = 0

    def __call__(self, points: Integers) -> Integers:
        """Return identities of positions, int64 ``[n]``; what is not known is asked in one call."""
        points = np.ascontiguousarray(points, np.int64)
        keys = [row.tobytes() for row in points]
        fresh = {key: row for row, key in enumerate(keys) if key not in self._known}
        if fresh:
            names = self.of_values(self.grid.values(points[list(fresh.values())]))
            self._known.update(zip(fresh, names.tolist(), strict=True))
        return np.array([self._known[key] for key in keys], np.int64)

    def of_values(self, x: Floats) -> Integers:
        """Ask about inputs that need not lie on the grid; none of them is remembered."""
        answers = np.ascontiguousarray(self._answer(x), np.float64)
        self.asked += len(x)
        self.rounds += 1
        names = []
        for answer in answers:
            key = answer[: self._width].tobytes()
            if key not in self._names:
                self._names[key] = len(self.answers)
                self.answers.append(answer)
            names.append(self._names[key])
        return np.array(names, np.int64)


def run_together(searches: Sequence[Search[T]], ask: Callable[[Integers], Integers]) -> list[T]:
    """Run searches in step: what all of them want to know next is asked in one round.

    Examples
    --------
    >>> def search(start):
    ...     identities = yield np.array([[start], [start + 1]])
    ...     return int(identities.sum())
    >>> run_together([search(0), search(5)], lambda points: points[:, 0])
    [1, 11]
    """
    results: dict[int, T] = {}
    waiting: dict[int, Integers] = {}

    def advance(index: int, answer: Integers | None) -> None:
        try:
            waiting[index] = next(searches[index]) if answer is None else searches[index].send(answer)
        except StopIteration as stop:
            results[index] = stop.value

    for index in range(len(searches)):
        advance(index, None)
    while waiting:
        turn, waiting = waiting, {}
        identities = ask(np.concatenate(list(turn.values())))
        start = 0
        for index, points in turn.items():
            advance(index, identities[start : start + len(points)])
            start += len(points)
    return [results[index] for index in range(len(searches))]


def failing(point: Integers, home: int, groups: Sequence[Sequence[Item]]) -> Search[set[Item]]:
    """Find the moves that leave the leaf of ``point``, many moves to a query.

    Leaves are boxes, so that a point with several features moved is in the leaf exactly
    if each move alone stays in it: one query clears a whole group. A group that fails is
    halved; when its first half passes, the second is known to fail without a question
    (Dorfman 1943; Hwang 1972).

    Parameters
    ----------
    point
        A point of the leaf, ``[d]``.
    home
        Its identity.
    groups
        Moves to test together; within a group each feature occurs once.
    """
    unknown = [list(group) for group in groups if group]
    known_to_fail: list[list[Item]] = []
    bad: set[Item] = set()
    while unknown or known_to_fail:
        tests: list[tuple[list[Item], list[Item]]] = [(group, []) for group in unknown]
        for group in known_to_fail:
            if len(group) == 1:
                bad.add(group[0])
            else:
                tests.append((group[: len(group) // 2], group[len(group) // 2 :]))
        unknown, known_to_fail = [], []
        if not tests:
            break
        points = np.repeat(point[None], len(tests), 0)
        for row, (group, _) in enumerate(tests):
            for feature, position in group:
                points[row, feature] = position
        identities = yield points
        for (group, rest), identity in zip(tests, identities, strict=True):
            if identity != home:
                known_to_fail.append(group)
                if rest:
                    unknown.append(rest)
            elif rest:
                known_to_fail.append(rest)
    return bad


def nearest_change(
    point: Integers, home: int, brackets: Sequence[tuple[int, int, int]], arity: int
) -> Search[list[tuple[int, int | None]]]:
    """Find how far each feature can move before the identity changes.

    Parameters
    ----------
    point, home
        A point of the leaf and its identity.
    brackets
        ``(feature, inside, outside)``: positions where the identity is, and is said not to
        be, ``home``.
    arity
        Positions asked a round in each bracket; 1 halves it, ``2^j - 1`` makes ``j`` halvings
        in one round.

    Returns
    -------
    list of (int, int or None)
        Last position inside and first outside, or None if ``outside`` proved to be inside.
    """
    inside = [bracket[1] for bracket in brackets]
    outside: list[int | None] = [bracket[2] for bracket in brackets]
    # What a group test inferred has not been seen; it is asked if the search ends there.
    seen = [False] * len(brackets)
    while True:
        probes: list[tuple[int, int]] = []
        for row in range(len(brackets)):
            far = outside[row]
            if far is None:
                continue
            if abs(far - inside[row]) > 1:
                probes += [(row, position) for position in between(inside[row], far, arity)]
            elif not seen[row]:
                probes.append((row, far))
        if not probes:
            return list(zip(inside, outside, strict=True))
        points = np.repeat(point[None], len(probes), 0)
        for line, (row, position) in enumerate(probes):
            points[line, brackets[row][0]] = position
        identities = yield points
        left: set[int] = set()
        for (row, position), identity in zip(probes, identities, strict=True):
            if row in left:
                continue  # behind the first change on this line
            if identity != home:
                left.add(row)
                outside[row], seen[row] = position, True
            elif position == outside[row]:
                inside[row], outside[row] = position, None
            else:
                inside[row] = position


def between(start: int, end: int, count: int) -> list[int]:
    """Return ``count`` evenly spaced positions strictly between, ordered from ``start``."""
    gap = end - start
    steps = sorted({round(abs(gap) * k / (count + 1)) for k in range(1, count + 1)} - {0, abs(gap)})
    steps = steps or [1]
    return [start + (step if gap > 0 else -step) for step in steps]
