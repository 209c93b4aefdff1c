"""How often thefts are found out, at what price, and how many verdicts there were to choose from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.statistics import benjamini_hochberg, clopper_pearson, holm
from assay.study.columns import Row, Rows, grouped, number_of, steps_of

__all__ = [
    "CELL",
    "FAMILY",
    "adjusted_verdicts",
    "clopper_pearson_band",
    "p_value_of",
    "power_curve",
    "power_table",
    "queries_within",
    "whole_p_value",
]

FAMILY = ("victim", "evidence", "verification", "seed")
CELL = ("victim", "evidence", "extraction", "removal", "verification", "access", "alpha")
_TEST = ("victim", "evidence", "verification", "access", "alpha")
_REACHED = {"queries_median": 0.5, "queries_90": 0.9, "queries_95": 0.95}


def adjusted_verdicts(verdicts: Rows) -> list[Row]:
    """Return the verdicts with p-values adjusted for the suspects that were tested together.

    A family is all suspects of one victim that are tested with the same evidence in the
    same way and repetition. A verdict without a p-value counts as p = 1.

    Parameters
    ----------
    verdicts
        Rows of the table ``verdicts``.

    Returns
    -------
    list of dict
        In the given order, with ``family`` (number of suspects), ``p_holm``,
        ``stolen_holm``, ``p_bh`` and ``stolen_bh`` added. ``stolen_bh`` controls the share
        of false accusations, ``stolen_holm`` the chance of any.

    References
    ----------
    Holm 1979; Benjamini and Hochberg 1995.

    Examples
    --------
    >>> rows = [{"evidence": "e", "alpha": 0.05, "p_value": p} for p in (0.04, 0.01)]
    >>> [(row["p_holm"], row["stolen_holm"]) for row in adjusted_verdicts(rows)]
    [(0.04, True), (0.02, True)]
    """
    found: list[Row] = [dict(row) for row in verdicts]
    for family in grouped(found, FAMILY).values():
        p = [p_value_of(row) for row in family]
        for row, one, two in zip(family, holm(p), benjamini_hochberg(p), strict=True):
            assert isinstance(row, dict)
            level = row["alpha"]
            row |= {"family": len(family), "p_holm": float(one), "p_bh": float(two)}
            row |= {"stolen_holm": bool(one <= level), "stolen_bh": bool(two <= level)}
    return found


def power_table(verdicts: Rows, confidence: float = 0.95) -> list[Row]:
    """Count the thefts found out, setting by setting.

    Parameters
    ----------
    verdicts
        Rows of the table ``verdicts``; the repetitions of a setting differ in their seeds.
    confidence
        Of the Clopper-Pearson intervals, in (0, 1).

    Returns
    -------
    list of dict
        One row a setting (victim, evidence, extraction, removal, verification, access,
        alpha), those of one test together: ``verdicts``, ``seeds``, ``stolen``, ``share``
        with ``share_low`` and ``share_high``; ``queries_median``, ``queries_90`` and
        ``queries_95``, the queries after which that share of the repetitions was found out
        (None: not reached, because an inconclusive verdict is one that more queries did
        not reach); ``queries_most`` spent by any; ``match``, the median match rate over all that
        can be asked (None if it was not measured); ``p_median``; ``steps``.

    Examples
    --------
    >>> rows = [{"stolen": s, "queries": q} for s, q in [(True, 10), (True, 30), (False, 99)]]
    >>> row = power_table(rows)[0]
    >>> row["stolen"], row["queries_median"], row["queries_90"], row["queries_most"]
    (2, 30, None, 99)
    """
    found = []
    for key, rows in grouped(verdicts, CELL).items():
        stolen = sum(bool(row["stolen"]) for row in rows)
        rate = clopper_pearson(stolen, len(rows), confidence)
        matched = [x for row in rows if (x := number_of(row.get("match_rate"))) is not None]
        asked = [int(n) for row in rows if (n := number_of(row.get("queries"))) is not None]
        found.append(
            {
                **dict(zip(CELL, key, strict=True)),
                "verdicts": len(rows),
                "seeds": len({row.get("seed") for row in rows}),
                "stolen": stolen,
                "share": rate.value,
                "share_low": rate.low,
                "share_high": rate.high,
                **{name: queries_within(rows, share) for name, share in _REACHED.items()},
                "queries_most": max(asked, default=None),
                "match": statistics.median(matched) if matched else None,
                "p_median": statistics.median(p_value_of(row) for row in rows),
                "steps": steps_of(rows),
            }
        )
    return [dict(row) for same in grouped(found, _TEST).values() for row in same]


def queries_within(verdicts: Rows, share: float) -> int | None:
    """Return the smallest number of queries within which a share of the verdicts was "stolen".

    Examples
    --------
    >>> rows = [{"stolen": True, "queries": q} for q in (10, 20, 30, 40)]
    >>> queries_within(rows, 0.5), queries_within([*rows, {"stolen": False, "queries": 5}], 0.9)
    (20, None)
    """
    reached = sorted(_stopped(verdicts))
    needed = math.ceil(share * len(verdicts) - 1e-9)  # 0.95 * 20 is 19, whatever floats make of it
    return int(reached[needed - 1]) if 0 < needed <= len(reached) else None


def power_curve(verdicts: Rows, confidence: float = 0.95) -> list[Row]:
    """Return the share of repetitions found out within q queries, as a step function.

    Parameters
    ----------
    verdicts
        Rows of one setting.
    confidence
        Of the pointwise Clopper-Pearson limits.

    Returns
    -------
    list of dict
        ``queries``, ``share``, ``low``, ``high``; the share holds from these queries on.
        The last point is at the most queries that any verdict spent.

    Examples
    --------
    >>> curve = power_curve([{"stolen": True, "queries": 20}, {"stolen": False, "queries": 50}])
    >>> [(point["queries"], point["share"]) for point in curve]
    [(0, 0.0), (20, 0.5), (50, 0.5)]
    """
    if not verdicts:
        return []
    reached = np.sort(_stopped(verdicts))
    asked = [n for row in verdicts if (n := number_of(row.get("queries"))) is not None]
    places = sorted({0.0, *reached.tolist(), *([max(asked)] if asked else [])})
    counts = np.searchsorted(reached, places, side="right")
    low, high = clopper_pearson_band(counts, len(verdicts), confidence)
    return [
        {"queries": int(q), "share": float(c / len(verdicts)), "low": float(a), "high": float(b)}
        for q, c, a, b in zip(places, counts, low, high, strict=True)
    ]


def clopper_pearson_band(
    counts: ArrayLike, trials: int, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the limits of `assay.statistics.clopper_pearson` for many counts at once.

    Parameters
    ----------
    counts
        Whole numbers from 0 to ``trials``, shape ``[m]``.
    trials
        At least 1.
    confidence
        In (0, 1).

    Returns
    -------
    tuple of numpy.ndarray
        Lower and upper limits, float64, shape ``[m]``.

    Examples
    --------
    >>> low, high = clopper_pearson_band([0, 20], 20)
    >>> float(low[0]), round(float(high[0]), 4), float(high[1])
    (0.0, 0.1684, 1.0)
    """
    from scipy.special import betaincinv

    k = np.asarray(counts, dtype=np.float64)
    tail = (1 - confidence) / 2
    low, high = np.zeros(k.shape), np.ones(k.shape)
    some, rest = k > 0, k < trials
    low[some] = betaincinv(k[some], trials - k[some] + 1, tail)
    high[rest] = betaincinv(k[rest] + 1, trials - k[rest], 1 - tail)
    return low, high


def p_value_of(row: Any) -> float:
    """Return the p-value of a row, 1 if it has none."""
    p = number_of(row.get("p_value"))
    return 1.0 if p is None else p


def whole_p_value(row: Mapping[str, Any]) -> float:
    """Return the p-value over all that could be asked where it is known, else that of the verdict.

    Examples
    --------
    >>> whole_p_value({"p_value": 0.01, "p_whole": 1e-6}), whole_p_value({"p_value": 0.01})
    (1e-06, 0.01)
    """
    whole = number_of(row.get("p_whole"))
    return p_value_of(row) if whole is None else whole


def _stopped(verdicts: Rows) -> NDArray[np.float64]:
    """Return the queries of the verdicts that were "stolen"; queries unknown count as none reached."""
    found: Sequence[float] = [
        n for row in verdicts if row.get("stolen") and (n := number_of(row.get("queries"))) is not None
    ]
    return np.asarray(found, dtype=np.float64)
