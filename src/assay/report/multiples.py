"""Small multiples: equal axes in rows, lines told apart without colour, names that say only what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.report import words
from assay.report.canvas import COLOURS, INK, figure, log_axis
from assay.study.columns import Rows, grouped

__all__ = [
    "MOST_LINES",
    "MOST_PANELS",
    "TEST",
    "cut",
    "legend",
    "line_style",
    "panels",
    "setting_name",
    "subject",
]
__all__ += ["small_log_axis"]

TEST = ("verification", "access", "alpha")
MOST_LINES, MOST_PANELS = 12, 12
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_WIDTHS = {1: 6.4, 2: 8.0, 3: 9.2}
_DECADE, _DECADES = 8, 5_000


def panels(count: int, height: float = 2.1) -> tuple[Any, list[Any]]:
    """Return a figure with so many equal axes, in rows of up to three."""
    columns = 2 if count in (2, 4) else min(3, count)
    rows = -(-count // columns)
    fig = figure(_WIDTHS[columns], 0.9 + (height + 0.35 * (columns == 1)) * rows)
    grid = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return fig, list(grid.flat[:count])


def small_log_axis(axes: Any, low: float, high: float) -> None:
    """Make x logarithmic with as few labels as a small picture has room for."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    log_axis(axes, low, high, margin=1.3)
    axes.xaxis.set_minor_locator(NullLocator())
    if high >= _DECADE * low:
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
    if low >= 1 and high < _DECADES * _DECADE:
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def setting_name(setting: Mapping[str, Any], rows: Rows) -> str:
    """Return a setting in words, without what all rows have in common or what follows from the rest.

    Examples
    --------
    >>> rows = [{"verification": "v", "access": "labels", "alpha": a} for a in (0.01, 0.05)]
    >>> setting_name(rows[1], rows)
    'v, α 0.05'
    """
    parts: list[str] = []
    for name, value in setting.items():
        if value is None:
            continue
        if name == "removal":
            if len({row.get(name) for row in rows}) > 1:
                parts.insert(0, "as stolen" if value == "none" else str(value))
        elif name not in ("access", "alpha"):
            parts.append(str(value))
        elif any(len({r.get(name) for r in same}) > 1 for same in grouped(rows, ["verification"]).values()):
            parts.append(f"α {value:g}" if name == "alpha" else str(value))
    return ", ".join(parts) or "all"


def line_style(place: int) -> dict[str, Any]:
    """Return colour and dashes of the n-th line.

    Examples
    --------
    >>> len({str(line_style(n)) for n in range(24)})
    24
    """
    # Dashes change with every line, so that lines that coincide are seen.
    shift = place // len(COLOURS)
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": _LINES[(place + shift) % len(_LINES)]}


def subject(victim: str | None, evidence: str | None, groups: Mapping[Any, Any]) -> str:
    """Return what a picture is about: the evidence, and the victim where there are several."""
    several = len({key[0] for key in groups}) > 1
    parts = [words.name(part, 40) for part in (evidence, victim if several or not evidence else None) if part]
    return ", ".join(parts) or "all"


def cut(shown: int, total: int, what: str) -> str:
    """Return the sentence that says what was left out, if anything was.

    Examples
    --------
    >>> cut(2, 3, "lines"), cut(3, 3, "lines")
    (' The first 2 of 3 lines are drawn; the tables have all.', '')
    """
    return f" The first {shown} of {total} {what} are drawn; the tables have all." if total > shown else ""


def legend(fig: Any, count: int, axes: Any = None) -> None:
    """Put one legend above all axes."""
    handles = () if axes is None else axes.get_legend_handles_labels()
    fig.legend(
        *handles,
        loc="outside upper center",
        ncols=min(5, max(1, count)),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.4,
    )
