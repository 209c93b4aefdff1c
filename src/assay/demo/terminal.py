"""The result of the demo as a table for the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from assay.demo.play import DemoResult
from assay.report import words
from assay.report.entries import Entry
from assay.report.summary import summarise
from assay.result import Verdict

__all__ = ["table"]


def table(result: DemoResult) -> Table:
    """Return a rich table: one row a suspect, one column a kind of evidence.

    Parameters
    ----------
    result
        What `assay.demo.run` returned.
    """
    summary = summarise(result.entries)
    found = Table(title="Who stole the digits?", caption=_caption(result), caption_justify="left")
    found.add_column("suspect")
    for evidence in summary.evidence:
        found.add_column(words.name(evidence), justify="right")
    for group in summary.groups:
        for name, truth in group:
            cells = [summary.cells.get((name, truth, evidence)) for evidence in summary.evidence]
            found.add_row(Text(words.name(name)), *map(_cell, cells))
        found.add_section()
    for truth, text in (("stolen", "thefts found"), ("independent", "innocents accused")):
        counts = [
            f"{k.flagged[truth]} of {k.suspects[truth]}, {words.count(int(k.queries.get(truth, 0)))} q"
            for k in summary.kinds
        ]
        found.add_row(Text(text, style="bold"), *counts)
    return found


def _cell(entry: Entry | None) -> Text:
    if entry is None or not isinstance(entry.record, Verdict):
        return Text("-")
    verdict = entry.record
    text = f"p = {words.p_value(verdict.p_value)}"
    return Text(f"stolen, {text}", style="bold red") if verdict.stolen else Text(text, style="dim")


def _caption(result: DemoResult) -> str:
    return f"q: median queries a suspect. {result.seconds:.0f} s. Report: {result.report}"
