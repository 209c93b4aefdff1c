"""The published evaluation, replayed: total times of users and attackers under the paper's rule.

Dziedzic et al. 2022 charge one puzzle per row of a log, not per request: 1,000 queries in
most rows. The replay keeps that, so that their table can be checked and the same thefts,
cut into accounts or padded, can be priced under their rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay.errors import InvalidInput
from assay.gateway.policy import PaperPricing
from assay.gateway.pricing.paper import paper_seconds

__all__ = ["LogRow", "constant_rows", "replay"]


@dataclass(frozen=True, slots=True)
class LogRow:
    """One row of a user's log.

    Parameters
    ----------
    queries
        Queries so far.
    total
        Privacy cost so far, as a sum of epsilons.
    seconds
        Time so far without any puzzle.
    """

    queries: float
    total: float
    seconds: float


def replay(paper: PaperPricing, rows: Iterable[LogRow]) -> float:
    """Return the total time of a user in seconds, one puzzle per row.

    Parameters
    ----------
    paper
        The published rule's constants.
    rows
        After the empty first row, which pays its own puzzle and need not be given.

    Raises
    ------
    InvalidInput
        If queries or seconds fall from one row to the next.

    Examples
    --------
    >>> rows = constant_rows(0.5301, 10_000, seconds_per_query=0.00736)
    >>> round(replay(PaperPricing(), rows))
    21283
    """
    total, before = paper_seconds(paper, 0, 0.0), LogRow(0.0, 0.0, 0.0)
    for row in rows:
        if row.queries < before.queries or row.seconds < before.seconds:
            msg = f"the rows of a log must not go back: {row} follows {before}"
            raise InvalidInput(msg)
        total += row.seconds - before.seconds + paper_seconds(paper, row.queries, row.total)
        before = row
    return total


def constant_rows(
    cost: float, queries: float, *, seconds_per_query: float, per_row: int = 1000
) -> list[LogRow]:
    """Return the log of a user whose every query costs the same.

    Examples
    --------
    >>> [row.queries for row in constant_rows(0.5, 2500, seconds_per_query=0.01)]
    [1000.0, 2000.0, 2500.0]
    """
    counts = [float(n) for n in range(per_row, int(queries) + 1, per_row)]
    if not counts or counts[-1] < queries:
        counts.append(float(queries))
    return [LogRow(n, cost * n, seconds_per_query * n) for n in counts]
