"""Tables as they are shown: formatted cells, the steps behind every row, and what is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.report import words
from assay.result import Interval
from assay.study.columns import Rows

__all__ = ["Cell", "Column", "Line", "Sheet", "label", "make_sheet", "percent", "ratio", "whole"]


@dataclass(frozen=True)
class Cell:
    """What stands in one place: text, something smaller below it, and a mark.

    Parameters
    ----------
    text, sub
        What is said, and what is said more quietly.
    chip
        ``"stolen"`` or ``"open"`` to set the text in a coloured field, empty for none.
    """

    text: str
    sub: str = ""
    chip: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a sheet.

    Parameters
    ----------
    title
        Heading.
    cell
        From a row to what is shown.
    number
        Whether it is set to the right.
    name
        Column of the rows that says which setting a row is about. If all rows agree, it is
        said once above the table; empty for a column that is always shown.
    """

    title: str
    cell: Callable[[Mapping[str, Any]], Cell]
    number: bool = False
    name: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a sheet, the keys of the steps that made it, and whether it begins a group."""

    cells: tuple[Cell, ...]
    steps: tuple[str, ...] = ()
    first: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table fit to print.

    Parameters
    ----------
    key, title, caption
        Name of its file, heading, how to read it.
    everywhere
        What is the same in all rows.
    columns
        Headings, each with whether it is set to the right.
    lines
        The rows that are shown.
    total
        The rows that there are.
    """

    key: str
    title: str
    caption: str
    everywhere: str
    columns: tuple[tuple[str, bool], ...]
    lines: tuple[Line, ...]
    total: int

    @property
    def linked(self) -> bool:
        """Whether any row names its steps."""
        return any(line.steps for line in self.lines)


def make_sheet(
    key: str,
    title: str,
    caption: str,
    rows: Rows,
    columns: Sequence[Column],
    longest: int = 200,
    groups: Sequence[str] = (),
) -> Sheet:
    """Lay rows out.

    Parameters
    ----------
    key, title, caption, columns
        See `Sheet` and `Column`.
    rows
        One mapping a row; ``steps`` or ``step`` name what made it.
    longest
        Most rows to show.
    groups
        Columns of the rows; where their values change a new group begins.

    Examples
    --------
    >>> columns = [label("Victim", "victim"), Column("n", whole("n"), number=True)]
    >>> rows = [{"victim": "a", "n": 1200}, {"victim": "a", "n": None}]
    >>> sheet = make_sheet("t", "T", "", rows, columns)
    >>> sheet.everywhere, sheet.columns, [line.cells[0].text for line in sheet.lines]
    ('victim a', (('n', True),), ['1,200', '-'])
    """
    said, shown = [], []
    for column in columns:
        cells = {column.cell(row) for row in rows} if column.name else set()
        if column.name and len(rows) > 1 and len(cells) == 1:
            (cell,) = cells
            more = f" ({cell.sub})" if cell.sub else ""
            said += [f"{column.title.lower()} {cell.text}{more}"] if cell.text != "-" else []
        else:
            shown.append(column)
    lines: list[Line] = []
    before: tuple[Any, ...] | None = None
    for row in rows[:longest]:
        group = tuple(row.get(name) for name in groups)
        lines.append(Line(tuple(c.cell(row) for c in shown), _steps(row), before not in (None, group)))
        before = group
    headings = tuple((column.title, column.number) for column in shown)
    return Sheet(key, title, caption, ", ".join(said), headings, tuple(lines), len(rows))


def label(title: str, name: str, sub: str = "") -> Column:
    """Return a column with a name of the setting, and perhaps another one below it."""

    def cell(row: Mapping[str, Any]) -> Cell:
        value = row.get(name)
        if isinstance(value, float):
            return Cell(words.number(value))
        more = words.name(str(row.get(sub) or "")) if sub and row.get(sub) != value else ""
        return Cell("-" if value in (None, "") else words.name(str(value)), more)

    return Column(title, cell, name=name)


def whole(name: str, missing: str = "") -> Callable[[Mapping[str, Any]], Cell]:
    """Return what shows a whole number, and ``missing``, quietly, where there is none."""

    def cell(row: Mapping[str, Any]) -> Cell:
        value = row.get(name)
        if value is None:
            return Cell("" if missing else "-", missing)
        return Cell(words.count(round(value)))

    return cell


def percent(name: str, *, spread: bool = True) -> Callable[[Mapping[str, Any]], Cell]:
    """Return what shows a mean share in percent, with the least and the largest below it."""

    def cell(row: Mapping[str, Any]) -> Cell:
        value = row.get(name)
        if value is None:
            return Cell("-")
        low: Any = row.get(f"{name}_least")
        high: Any = row.get(f"{name}_most")
        sub = (
            f"{100 * low:.1f} to {100 * high:.1f}"
            if spread and None not in (low, high) and low != high
            else ""
        )
        return Cell(f"{100 * value:.1f} %".replace("-", "−"), sub.replace("-", "−"))

    return cell


def ratio(
    count: str, of: str, low: str, high: str, chip: Callable[[Mapping[str, Any]], str] | None = None
) -> Callable[[Mapping[str, Any]], Cell]:
    """Return what shows a count out of another, with the limits of their ratio below it."""

    def cell(row: Mapping[str, Any]) -> Cell:
        share = Interval(row[count] / row[of], row[low], row[high])
        text = f"{words.count(row[count])} of {words.count(row[of])}"
        return Cell(text, words.interval(share, percent=True), chip(row) if chip else "")

    return cell


def _steps(row: Mapping[str, Any]) -> tuple[str, ...]:
    steps = row.get("steps")
    if isinstance(steps, Sequence) and not isinstance(steps, str):
        return tuple(steps)
    return (row["step"],) if row.get("step") else ()
