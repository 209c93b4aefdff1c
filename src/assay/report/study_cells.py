"""Cells and columns of a study's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from assay.report import words
from assay.report.sheets import Cell, Column, percent
from assay.report.study_sentences import accuses_too_often
from assay.result import Interval

__all__ = [
    "by_secret_cell",
    "decision_cell",
    "effect_cell",
    "front_cell",
    "left_cell",
    "lost_column",
    "memory_cell",
    "ours_cell",
    "outcome_cell",
    "p_column",
    "points_cell",
    "published_cell",
    "seconds_column",
    "share_column",
    "where_cell",
]

_MIB = 2**20
_LONG = 100


def p_column(name: str) -> Column:
    """Return the column of a kind of p-value."""
    titles = {"p_value": "p", "p_median": "Median p", "p_holm": "Holm", "p_bh": "Benjamini-Hochberg"}
    return Column(
        titles[name],
        lambda row: Cell(words.p_value(row[name]) if row.get(name) is not None else "-"),
        number=True,
    )


def decision_cell(row: Mapping[str, Any]) -> Cell:
    """Return what was decided about a suspect."""
    stolen = bool(row["stolen"])
    return Cell(
        "stolen" if stolen else "inconclusive", row.get("reason") or "", "stolen" if stolen else "open"
    )


def effect_cell(row: Mapping[str, Any]) -> Cell:
    """Return an effect size with its interval."""
    value, low, high = (row.get(name) for name in ("effect", "effect_low", "effect_high"))
    if value is None:
        return Cell("-")
    limits = f" [{words.number(low)}, {words.number(high)}]" if None not in (low, high) else ""
    return Cell(words.number(value) + limits, row.get("effect_name") or "")


def by_secret_cell(row: Mapping[str, Any]) -> Cell:
    """Return how often secrets accuse wrongly, with the interval."""
    rate = Interval(row["secret_rate"], row["secret_low"], row["secret_high"])
    plural = "" if row["secrets"] == 1 else "s"
    sub = f"{row['secrets_accusing']} of {words.count(row['secrets'])} secret{plural}"
    chip = "stolen" if accuses_too_often(row) else ""
    return Cell(words.interval(rate, percent=True) + (" too often" if chip else ""), sub, chip)


def share_column(name: str) -> Column:
    """Return the column of a share in percent."""
    return Column(
        {"share_5": "p ≤ 0.05", "share": "Still found stolen"}[name], percent(name, spread=False), number=True
    )


def published_cell(row: Mapping[str, Any]) -> Cell:
    """Return a published number and its source."""
    return Cell(words.value(row["value"]), row["source"])


def ours_cell(row: Mapping[str, Any]) -> Cell:
    """Return our number beside a published one, or why there is none."""
    if row["ours"] is None:
        return Cell("-", "no row of ours matches" if not row["rows"] else "our rows have no such number")
    text = f"{words.number(row['ours'])} [{words.number(row['low'])}, {words.number(row['high'])}]"
    return Cell(text, f"{row['statistic']} of {words.count(row['rows'])}, {row['limits']}")


def where_cell(row: Mapping[str, Any]) -> Cell:
    """Return which of our rows a published number is compared with."""
    where = ", ".join(f"{k} {v}" for k, v in row["where"].items())
    return Cell(f"{row['table']}: {row['metric']}", where)


def points_cell(name: str) -> Callable[[Mapping[str, Any]], Cell]:
    """Return what shows a difference of accuracies in points, with the least and the largest below it."""

    def cell(row: Mapping[str, Any]) -> Cell:
        value: Any = row.get(name)
        low: Any = row.get(f"{name}_least")
        high: Any = row.get(f"{name}_most")
        if value is None:
            return Cell("-")
        sub = f"{100 * low:.1f} to {100 * high:.1f}" if None not in (low, high) and low != high else ""
        return Cell(f"{100 * value:.1f}".replace("-", "−"), sub.replace("-", "−"))

    return cell


def outcome_cell(row: Mapping[str, Any]) -> Cell:
    """Return who has won after a removal."""
    if row["removal"] in (None, "none"):
        return Cell("verified" if row["outcome"] == "verified" else "not in the copy")
    text = {
        "verified": "still verified",
        "spoilt": "lost more than 5 points",
        "won": "WON BY THE THIEF",
        "absent": "was not in the copy",
    }[row["outcome"]]
    return Cell(text, chip="stolen" if row["outcome"] == "won" else "")


def lost_column(name: str, title: str) -> Column:
    """Return the column of an accuracy that was lost."""
    return Column(title, percent(name), number=True)


def front_cell(row: Mapping[str, Any]) -> Cell:
    """Mark what lies on the Pareto front."""
    return Cell("yes", chip="open") if row["front"] else Cell("")


def left_cell(row: Mapping[str, Any]) -> Cell:
    """Return the evidence that is left."""
    return Cell(words.number(row["evidence_left"]))


def seconds_column(name: str, title: str) -> Column:
    """Return the column of a duration."""

    def cell(row: Mapping[str, Any]) -> Cell:
        seconds = row[name]
        return Cell(words.count(round(seconds)) if seconds >= _LONG else words.number(seconds))

    return Column(title, cell, number=True)


def memory_cell(row: Mapping[str, Any]) -> Cell:
    """Return the most memory that a step took."""
    return Cell(f"{row['memory_most'] / _MIB:,.0f} MiB")
