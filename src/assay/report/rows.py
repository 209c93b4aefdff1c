"""Records as flat rows, for spreadsheets and further programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from assay.report.entries import Entry
from assay.result import Interval, Verdict

__all__ = ["csv_text", "json_text", "table_rows"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return one flat row per record, verdicts and extractions alike; ``kind`` tells them apart.

    Examples
    --------
    >>> from assay.result import Cost
    >>> verdict = Verdict("stolen", 0.01, 0.002, "t", "null", {}, None, Cost(queries=16), "s", "c", "x")
    >>> row = table_rows([Entry(verdict, "copy")])[0]
    >>> row["suspect"], row["decision"], row["queries"]
    ('copy', 'stolen', 16)
    """
    return [_verdict(e, e.record) if isinstance(e.record, Verdict) else _extraction(e) for e in entries]


def json_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as JSON; numbers that are not finite are written as text."""
    finite = [
        {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    return json.dumps(finite, indent=1, allow_nan=False) + "\n"


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV with a header; text that a spreadsheet would compute is quoted.

    Examples
    --------
    >>> print(csv_text([{"suspect": "=1+1", "p": 0.5}]).strip())
    suspect,p
    '=1+1,0.5
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_inert(row.get(column, "")) for column in columns)
    return out.getvalue()


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _verdict(entry: Entry, verdict: Verdict) -> dict[str, Any]:
    effect = verdict.effect
    return {
        "kind": "verdict",
        "suspect": entry.suspect,
        "truth": entry.truth,
        "evidence": entry.evidence,
        "scheme": verdict.scheme,
        "decision": verdict.decision,
        "alpha": verdict.alpha,
        "p_value": verdict.p_value,
        "test": verdict.test,
        "n": sum(verdict.n.values()),
        "effect": effect.name if effect else "",
        "effect_value": effect.value if effect else math.nan,
        "effect_low": effect.low if effect else math.nan,
        "effect_high": effect.high if effect else math.nan,
        "queries": verdict.cost.queries,
        "round_trips": verdict.cost.round_trips,
        "seconds": verdict.cost.seconds,
        "seed": verdict.seed,
        "commitment": verdict.commitment,
        "suspect_digest": verdict.suspect,
    }


def _extraction(entry: Entry) -> dict[str, Any]:
    record = entry.record
    assert not isinstance(record, Verdict)
    row = {
        "kind": "extraction",
        "suspect": entry.suspect,
        "truth": entry.truth,
        "attack": record.attack,
        "queries": record.cost.queries,
        "round_trips": record.cost.round_trips,
        "seconds": record.cost.seconds,
        "seed": record.seed,
        "suspect_digest": record.surrogate,
    }
    for quantity in ("fidelity", "accuracy", "victim_accuracy"):
        found: Interval | None = getattr(record, quantity)
        for part in ("value", "low", "high"):
            key = quantity if part == "value" else f"{quantity}_{part}"
            row[key] = getattr(found, part) if found else math.nan
    return row
