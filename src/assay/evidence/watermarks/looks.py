"""When to look at the answers so far: early stopping that costs no validity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.result import TestResult
from assay.statistics import binomial_test, group_sequential, spending

__all__ = ["Look", "binomial_looks", "plan_looks", "smallest_p_value"]

_FIRST = 8  # eight answers decide about any mark that survives nine times in ten


@dataclass(frozen=True)
class Look:
    """One look at the answers so far.

    Parameters
    ----------
    queries
        Triggers asked by then.
    weight
        Share of alpha spent at this look, in (0, 1].
    """

    queries: int
    weight: float


def plan_looks(queries: int, sizes: Sequence[int], alpha: float, *, early: bool = True) -> tuple[Look, ...]:
    """Decide before the first query when to look: after 8 answers and after every doubling.

    A look at which even a perfect match could not be significant is left out. Beyond the
    first round of marks, looks are at the ends of rounds, so that all marks count alike.
    Each look gets twice the share of alpha of the one before it, so that looking early
    at most doubles the p-value of somebody who needs all the answers.

    Parameters
    ----------
    queries
        Triggers that may be asked, at least 1.
    sizes
        Candidates of each mark, in the order in which marks take turns.
    alpha
        Level of the test.
    early
        False: one look, after all answers.

    Returns
    -------
    tuple of Look
        In order; the last one after ``queries`` answers; weights sum to 1.

    References
    ----------
    Jennison and Turnbull 2000, "Group Sequential Methods", chapter 7: spending alpha.

    Examples
    --------
    >>> [(look.queries, round(look.weight, 3)) for look in plan_looks(30, [10] * 10, 0.01)]
    [(8, 0.143), (20, 0.286), (30, 0.571)]
    >>> plan_looks(30, [10] * 10, 0.01, early=False)
    (Look(queries=30, weight=1.0),)
    """
    times, turn = [], _FIRST
    while early and turn < queries:
        times.append(turn if turn <= len(sizes) else -(-turn // len(sizes)) * len(sizes))
        turn *= 2
    times = [*sorted({time for time in times if time < queries}), queries]
    while True:
        looks = tuple(map(Look, times, spending(1.0, len(times), "geometric").tolist()))
        reach = [smallest_p_value(look, sizes) <= alpha for look in looks]
        if all(reach) or len(looks) == 1:
            return looks
        # The last look stays: whether it can reach alpha with all of it is for the caller to check.
        del times[reach.index(False) if not all(reach[:-1]) else 0]


def smallest_p_value(look: Look, sizes: Sequence[int]) -> float:
    """Return the p-value of a suspect that matches all triggers, with the price of the looks."""
    return min(1.0, 1 / math.prod(sizes[: look.queries]) / look.weight)


def binomial_looks(looks: Sequence[dict[str, Any]], rate: float) -> TestResult:
    """Exact binomial test of the matches at several looks against a rate.

    A plain binomial test at the look where another test happened to stop would have no
    level; this one pays for the looks as that test does.

    Parameters
    ----------
    looks
        ``queries``, ``weight`` and ``matches`` of each look taken, at least one.
    rate
        Match rate under the null, in [0, 1].

    Examples
    --------
    >>> looks = [{"queries": 8, "weight": 0.2, "matches": 3}, {"queries": 16, "weight": 0.8, "matches": 9}]
    >>> found = binomial_looks(looks, 0.1)
    >>> found.n, round(found.p_value / binomial_test(9, 16, 0.1).p_value, 3)
    ({'trials': 16}, 1.25)
    """
    tests = [binomial_test(look["matches"], look["queries"], rate) for look in looks]
    weights = [look["weight"] for look in looks]
    return replace(tests[-1], p_value=group_sequential([test.p_value for test in tests], weights))
