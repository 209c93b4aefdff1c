"""Numbers from papers beside ours."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from assay.result import Interval
from assay.statistics import clopper_pearson
from assay.study.columns import Row, Rows, number_of, steps_of

__all__ = ["beside_published"]

_MEDIANS = ("p_value", "queries", "round_trips", "seconds")


def beside_published(published: Rows, tables: Mapping[str, Rows], confidence: float = 0.95) -> list[Row]:
    """Put our own number beside each published one.

    Ours is taken over the rows of the named table whose columns equal ``where``: the share
    of a column that is true or false, the median of p-values, queries, round trips and
    seconds, the mean of anything else.

    Parameters
    ----------
    published
        See `assay.study.tables.StudyTables`.
    tables
        Our rows by table.
    confidence
        Of the Clopper-Pearson interval of a share.

    Returns
    -------
    list of dict
        The published row with ``rows`` (how many of ours match), ``ours`` (None if none
        has the number), ``statistic`` (``"share"``, ``"median"`` or ``"mean"``), ``low``
        and ``high`` (confidence limits of a share; least and largest value otherwise),
        ``limits`` (which of the two) and ``steps``.

    Examples
    --------
    >>> rows = [{"extraction": "e", "fidelity": x} for x in (0.8, 0.9)]
    >>> paper = {
    ...     "table": "extractions",
    ...     "where": {"extraction": "e"},
    ...     "metric": "fidelity",
    ...     "value": 0.88,
    ...     "source": "A paper",
    ... }
    >>> row = beside_published([paper], {"extractions": rows})[0]
    >>> row["value"], round(row["ours"], 2), row["statistic"], row["rows"]
    (0.88, 0.85, 'mean', 2)
    """
    found = []
    for row in published:
        ours = [r for r in tables.get(row["table"], ()) if _matches(r, row["where"])]
        found.append(
            {
                **row,
                "rows": len(ours),
                **_number(ours, row["metric"], confidence),
                "steps": steps_of(ours),
            }
        )
    return found


def _matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    return all(name in row and row[name] == value for name, value in where.items())


def _number(rows: Rows, metric: str, confidence: float) -> Row:
    flags = [row[metric] for row in rows if isinstance(row.get(metric), bool)]
    if flags:
        rate: Interval = clopper_pearson(sum(flags), len(flags), confidence)
        limits = f"Clopper-Pearson {confidence:.0%}"
        return {
            "ours": rate.value,
            "statistic": "share",
            "low": rate.low,
            "high": rate.high,
            "limits": limits,
        }
    values = [v for row in rows if (v := number_of(row.get(metric))) is not None]
    if not values:
        return {"ours": None, "statistic": None, "low": None, "high": None, "limits": None}
    middle = metric in _MEDIANS
    return {
        "ours": statistics.median(values) if middle else math.fsum(values) / len(values),
        "statistic": "median" if middle else "mean",
        "low": min(values),
        "high": max(values),
        "limits": "least to largest",
    }
