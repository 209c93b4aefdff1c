"""The result of the demo as a table for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from assay.demo.play import DemoResult
from assay.report import words
from assay.report.entries import Entry
from assay.report.summary import summarise
from assay.result import Verdict

__all__ = ["table"]

_MARK = "●"
_TINY = 0.001


def table(result: DemoResult) -> Table:
    """Return a rich table: one row a suspect, one column a kind of evidence, p-values in the cells.

    Parameters
    ----------
    result
        What `assay.demo.run` returned.
    """
    summary = summarise(result.entries)
    caption = f"p-values; {_MARK} found to be stolen. {result.seconds:.0f} s. Report: {result.report}"
    found = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title="Who stole the digits?",
        caption=caption,
    )
    found.add_column("suspect", no_wrap=True)
    for evidence in summary.evidence:
        found.add_column(words.name(evidence), justify="right", no_wrap=True)
    for group in summary.groups:
        for name, truth in group:
            cells = [summary.cells.get((name, truth, evidence)) for evidence in summary.evidence]
            found.add_row(Text(words.name(name)), *map(_cell, cells))
        found.add_section()
    for truth, flagged, asked in (
        ("stolen", "thefts found", "queries a theft"),
        ("independent", "innocents accused", "queries an innocent"),
    ):
        counts = [f"{k.flagged[truth]} of {k.suspects[truth]}" for k in summary.kinds]
        medians = [words.count(int(k.queries.get(truth, 0))) for k in summary.kinds]
        found.add_row(Text(flagged, style="bold"), *counts)
        found.add_row(Text(asked), *medians)
    return found


def _cell(entry: Entry | None) -> Text:
    if entry is None or not isinstance(entry.record, Verdict):
        return Text("-")
    found = entry.record.p_value
    p = f"{found:.2g}" if found >= _TINY else f"{found:.1g}"  # so that five columns fit 80 characters
    return Text(f"{_MARK} {p}", style="bold red") if entry.record.stolen else Text(p, style="dim")
