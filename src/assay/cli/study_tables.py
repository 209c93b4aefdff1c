"""What is said of a study: before it runs, while it runs, when it has ended, beside another run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from assay.cli.console import facts, grid
from assay.cli.study_progress import duration, time_left

if TYPE_CHECKING:
    from assay.study.diff import Difference
    from assay.study.grid import Plan
    from assay.study.run import Status
    from assay.study.tables import StudyTables

__all__ = ["difference_tables", "plan_json", "plan_tables", "status_tables", "summary_json", "summary_tables"]

_NUMBER = re.compile(r"(?<![\w.-])\d+(?![\w.-])")
_MOST = 20
_ORDER = ("verdicts", "panel", "extractions", "removals", "models")


def plan_json(plan: Plan, finished: set[str], slots: int | None, pace: float) -> dict[str, Any]:
    """Return the steps of a plan, alone and in groups, with what they are expected to cost."""
    left = [step for step in plan.steps if step.key not in finished]
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for step in plan.steps:
        pattern = _NUMBER.sub("#", step.label)
        empty = {"kind": step.kind, "steps": pattern, "count": 0, "finished": 0, "core_minutes": 0.0}
        group = groups.setdefault((step.kind, pattern), empty)
        group["count"] += 1
        group["finished"] += step.key in finished
        if step.key not in finished:
            group["core_minutes"] += step.seconds * pace / 60
    core = sum(step.seconds for step in left)
    # With many cores, the longest chain of steps decides.
    wall = None if slots is None else max(time_left(core, pace, slots), plan.longest * pace if left else 0.0)
    return {
        "steps": [{**step.to_dict(), "finished": step.key in finished} for step in plan.steps],
        "groups": list(groups.values()),
        "count": len(plan.steps),
        "finished": len(plan.steps) - len(left),
        "core_minutes": core * pace / 60,
        "minutes": None if wall is None else wall / 60,
        "slots": slots,
        "rows": len(plan.cells),
    }


def plan_tables(data: Mapping[str, Any], title: str) -> list[Table | str]:
    """Return the groups of `plan_json` for people."""
    rows = [
        (g["kind"], g["steps"], f"{g['count']:,}", f"{g['finished']:,}", f"{g['core_minutes']:,.1f}")
        for g in data["groups"]
    ]
    columns = ("kind", "steps", "count", "finished", "core-minutes left")
    total = (
        f"{data['count']:,} steps, {data['finished']:,} of them finished; about "
        f"{duration(data['core_minutes'] * 60)} on one core"
    )
    if data["minutes"] is not None:
        total += f", {duration(data['minutes'] * 60)} on {data['slots']:,} at a time"
    return [grid(title, columns, rows), total]


def status_tables(status: Status, title: str, folder: str) -> list[Table | str]:
    """Return how far a run is."""
    left = time_left(status.seconds_left, status.pace, status.slots)
    running = None
    if status.active:
        running = "; ".join(status.running) or "about to start"
    shown = {
        "folder": folder,
        "steps done": f"{status.done:,} of {status.steps:,}",
        "failed": status.failed or None,
        "skipped": f"{status.skipped:,}, because something that they need failed" if status.skipped else None,
        "left": f"{status.left:,}",
        "running": running or "nothing: no run is at work",
        "time spent": f"{duration(status.seconds_spent)} of one core",
        "time left": f"about {duration(left)} with {status.slots} at a time" if status.left else None,
    }
    return [facts(title, shown), *_failures(status.errors)]


def summary_json(tables: StudyTables) -> dict[str, Any]:
    """Return the first summary of what a study found."""
    from assay.study.error_summary import error_table
    from assay.study.power_summary import power_table

    power = power_table(tables.rows("verdicts")) if tables.rows("verdicts") else []
    errors = error_table(tables.rows("panel")) if tables.rows("panel") else []
    keep = ("victim", "evidence", "extraction", "removal", "verification", "verdicts", "stolen", "p_median")
    innocent = ("victim", "evidence", "panel", "verification", "kind", "verdicts", "false_positives")
    return {
        "thefts": [{k: row[k] for k in (*keep, "queries_median")} for row in power],
        "independent": [{k: row[k] for k in (*innocent, "rate_low", "rate_high")} for row in errors],
    }


def summary_tables(summary: Mapping[str, Any], failed: Sequence[Mapping[str, str]]) -> list[Table | str]:
    """Return `summary_json` and the failed steps for people."""
    found: list[Table | str] = []
    if summary["thefts"]:
        removals = any(row["removal"] != "none" for row in summary["thefts"])
        names = ["victim", "evidence", "extraction", *(["removal"] if removals else []), "verification"]
        rows = [
            (
                *(row[name] for name in names),
                f"{row['stolen']} of {row['verdicts']}",
                f"{row['p_median']:.3g}",
                "" if row["queries_median"] is None else f"{row['queries_median']:,}",
            )
            for row in summary["thefts"]
        ]
        found.append(grid("Thefts", (*names, "found out", "median p", "median queries"), rows))
    if summary["independent"]:
        names = ["victim", "evidence", "panel", "verification", "kind"]
        rows = [
            (
                *(row[name] for name in names),
                f"{row['false_positives']} of {row['verdicts']}",
                f"{row['rate_low']:.2%} to {row['rate_high']:.2%}",
            )
            for row in summary["independent"]
        ]
        found.append(grid("Independent models", (*names, "accused", "95% interval"), rows))
    return [*found, *_failures(failed)]


def difference_tables(difference: Difference) -> list[Table | str]:
    """Return what is different between two runs for people."""
    found: list[Table | str] = []
    if difference.causes:
        causes = [
            (
                cause.kind,
                "; ".join(f"{path}: {_short(a)} -> {_short(b)}" for path, (a, b) in cause.changes.items()),
                f"{cause.steps:,}",
                f"{cause.rows:,}",
                cause.example,
            )
            for cause in difference.causes
        ]
        found.append(
            grid("Configured differently", ("kind", "change", "steps", "rows", "for example"), causes)
        )
    for name, rows_of in (("a", difference.only_a), ("b", difference.only_b)):
        if rows_of:
            folder = getattr(difference, name)
            alone = [(row["table"], _place(row)) for row in rows_of]
            found += _cut(f"Only in {folder}", ("table", "row"), alone)
    rows = [
        (
            change.table,
            _place(change.where),
            "; ".join(f"{name}: {_short(a)} -> {_short(b)}" for name, (a, b) in change.results.items()),
        )
        for change in sorted(difference.changed, key=lambda change: _ORDER.index(change.table))
    ]
    if rows:
        found += _cut("Different results", ("table", "row", f"{difference.a} -> {difference.b}"), rows)
    moved = [change for change in difference.changed if not change.recomputed]
    if moved:
        found.append(f"{len(moved):,} of these were found by equal steps: versions or machines differ")
    found.append(f"rows with equal results: {difference.same:,}")
    return found


def _cut(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[Table | str]:
    """Return the first rows as a table; the rest is for ``--json``."""
    more = len(rows) - _MOST
    found: list[Table | str] = [grid(title, columns, rows[:_MOST])]
    return found if more <= 0 else [*found, f"and {more:,} more (--json shows all)"]


def _failures(errors: Sequence[Mapping[str, str]]) -> list[Table | str]:
    if not errors:
        return []
    rows = [(row["label"], row["error"], row["log"]) for row in errors]
    return _cut("Failed steps", ("step", "error", "log"), rows)


def _place(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items() if name != "table")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 2 * _MOST else text[: 2 * _MOST] + "..."
