"""What the terminal sees: tables for people, JSON for programs, one sentence for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.result import Cost, Effect, Interval, Record

__all__ = ["cost_rows", "estimate", "facts", "grid", "paid_line", "print_error", "print_json", "print_tables"]

_MINUTE = 60


def print_error(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"error: {_plain(message)}\n")


def print_json(payload: Record | Mapping[str, Any]) -> None:
    """Write one JSON object to standard output."""
    data = payload.to_dict() if isinstance(payload, Record) else payload
    sys.stdout.write(json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n")


def print_tables(*parts: Table | str) -> None:
    """Write tables and lines to standard output."""
    # Names come from files and servers: neither markup nor escape sequences of theirs are obeyed.
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=False)
    for part in parts:
        # Lines are not wrapped, so that a digest or a path can be copied whole.
        console.print(part, soft_wrap=isinstance(part, str))


def facts(title: str, rows: Mapping[str, object]) -> Table:
    """Return a table of names and values; values that are None are left out."""
    table = Table(title=_plain(title), title_justify="left", min_width=len(title) + 2, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, _plain(str(value)))
    return table


def grid(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table with a header."""
    table = Table(title=_plain(title), title_justify="left", min_width=len(title) + 2)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_plain(str(cell)) for cell in row))
    return table


def estimate(value: Interval | Effect | None) -> str | None:
    """Return an estimate with its limits in words, None for None.

    Examples
    --------
    >>> estimate(Interval(0.91, 0.88, 0.94))
    '0.910 (95% interval 0.880 to 0.940)'
    """
    if value is None:
        return None
    return f"{value.value:.3f} ({value.confidence:.0%} interval {value.low:.3f} to {value.high:.3f})"


def cost_rows(cost: Cost) -> dict[str, object]:
    """Return what was spent as rows of a table.

    Examples
    --------
    >>> cost_rows(Cost(queries=1200, dollars=1.2, seconds=90.0))["time"]
    '1 min 30 s'
    """
    replayed = f" ({cost.replayed:,} from the journal)" if cost.replayed else ""
    minutes, seconds = divmod(cost.seconds, _MINUTE)
    return {
        "queries": f"{cost.queries:,}{replayed}",
        "round trips": f"{cost.round_trips:,}",
        "dollars": f"{cost.dollars:,.2f}" if cost.dollars else None,
        "time": f"{minutes:.0f} min {seconds:.0f} s" if minutes else f"{seconds:.1f} s",
    }


def paid_line(models: Iterable[object]) -> list[str]:
    """Return one line about the work that gateways were paid for these models; none if it was none.

    Examples
    --------
    >>> paid_line([object()])
    []
    """
    paid = [one.paid for one in models if hasattr(one, "paid")]
    hashes, seconds = sum(one.hashes for one in paid), sum(one.seconds for one in paid)
    return [f"paid {hashes:,} hashes in {seconds:.1f} s"] if hashes else []


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
