"""Small charts as inline SVG: no script, no files, readable aloud and in the dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from markupsafe import Markup

from assay.gateway.operator.words import clock, compact

__all__ = ["Series", "bars", "histogram", "line"]

_WIDTH, _HEIGHT = 520, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 12, 22
_TICKS = 3
_DAY, _HOUR = 86_400.0, 3600.0
_GAP = 0.2
_TIME_STEPS = (
    300.0,
    600.0,
    900.0,
    1800.0,
    *(h * _HOUR for h in (1, 2, 3, 6, 12)),
    *(d * _DAY for d in (1, 2, 7, 14)),
)
_MOST_TIMES = 6


@dataclass(frozen=True)
class Series:
    """Values over time.

    Parameters
    ----------
    title
        What the chart says, for those who cannot see it as well.
    since, width, count
        Start of the first bucket, seconds of a bucket, number of buckets.
    values
        One per bucket; None where there is nothing to show.
    unit
        What the values are, for the words.
    """

    title: str
    since: float
    width: float
    count: int
    values: Sequence[float | None]
    unit: str = ""

    @property
    def words(self) -> str:
        """The chart in a sentence."""
        known = [(v, i) for i, v in enumerate(self.values) if v is not None]
        if not any(v for v, _ in known):
            return f"{self.title}: nothing in this time."
        top, at = max(known)
        last = known[-1][0]
        when = clock(self.since + at * self.width)[:16]
        return f"{self.title}: at most {compact(top)} {self.unit} at {when} UTC, last {compact(last)}."


def bars(series: Series, style: str = "one") -> Markup:
    """Return a bar chart; ``style`` is the class that colours it.

    Examples
    --------
    >>> chart = bars(Series("Items", 0.0, 3600.0, 2, [3.0, 5.0]))
    >>> chart.count('class="one"'), "Items: at most 5" in chart
    (2, True)
    """
    top, grid = _grid(series.values)
    step = _plot() / max(series.count, 1)
    parts = []
    for i, value in enumerate(series.values):
        if not value:
            continue
        height = max(value / top * _depth(), 1.0)
        x, y = _LEFT + (i + _GAP / 2) * step, _HEIGHT - _BOTTOM - height
        words = f"{clock(series.since + i * series.width)[:16]}: {compact(value)}"
        parts.append(_bar(style, x, y, max(step * (1 - _GAP), 0.6), height, words))
    return _frame(series.title, series.words, grid, _times(series), Markup("").join(parts))


def line(series: Series, style: str = "one", *, level: float | None = None) -> Markup:
    """Return a line chart; gaps stay gaps.

    Parameters
    ----------
    series
        The values.
    style
        The class that colours it.
    level
        Where to draw a dashed line, such as the price that is expected.

    Examples
    --------
    >>> line(Series("Price", 0.0, 60.0, 3, [1.0, None, 2.0])).count("<circle")
    2
    """
    top, grid = _grid([*series.values, level])
    step = _plot() / max(series.count, 1)

    def place(i: int, value: float) -> tuple[float, float]:
        return _LEFT + (i + 0.5) * step, _HEIGHT - _BOTTOM - value / top * _depth()

    known = [(i, v) for i, v in enumerate(series.values) if v is not None]
    parts = []
    run: list[tuple[float, float]] = []
    runs = [run]
    for (i, v), (j, _) in pairwise([*known, (-1, 0.0)]):
        run.append(place(i, v))
        if j != i + 1:
            run = []
            runs.append(run)
    for points in runs:
        if len(points) == 1:
            parts.append(
                Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2"/>').format(style, *points[0])
            )
        elif points:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(Markup('<polyline class="line {}" points="{}"/>').format(style, path))
    if level is not None:
        y = place(0, level)[1]
        parts.append(
            Markup('<line class="level" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                _LEFT, _WIDTH - _RIGHT, y, y
            )
        )
    return _frame(series.title, series.words, grid, _times(series), Markup("").join(parts))


def histogram(
    title: str, values: Sequence[float], edges: Sequence[float], style: str = "one", unit: str = ""
) -> Markup:
    """Return how often values lie between edges; the last bar holds what is beyond.

    Examples
    --------
    >>> histogram("Prices", [0.5, 1.5, 9.0], [0, 1, 2]).count("<rect")
    3
    """
    numbers = [0] * len(edges)
    for value in values:
        numbers[max(0, sum(value >= edge for edge in edges) - 1)] += 1
    top, grid = _grid(numbers)
    step = _plot() / len(edges)
    parts, labels = [], []
    for i, number in enumerate(numbers):
        words = (
            f"{compact(edges[i])} to {compact(edges[i + 1])}"
            if i + 1 < len(edges)
            else f"from {compact(edges[i])}"
        )
        labels.append((_LEFT + i * step, compact(edges[i])))
        if number:
            height = max(number / top * _depth(), 1.0)
            x, y = _LEFT + (i + _GAP / 4) * step, _HEIGHT - _BOTTOM - height
            parts.append(_bar(style, x, y, step * (1 - _GAP / 2), height, f"{words}: {number}"))
    often = max(range(len(numbers)), key=numbers.__getitem__)
    said = (
        f"{title}: {len(values)} values, most from {compact(edges[often])} {unit}."
        if len(values)
        else f"{title}: nothing yet."
    )
    return _frame(title, said, grid, labels, Markup("").join(parts))


def _bar(style: str, x: float, y: float, width: float, height: float, words: str) -> Markup:
    place = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">')
    return place.format(style, x, y, width, height) + Markup("<title>{}</title></rect>").format(words)


def _plot() -> float:
    return _WIDTH - _LEFT - _RIGHT


def _depth() -> float:
    return _HEIGHT - _TOP - _BOTTOM


def _grid(values: Sequence[float | None]) -> tuple[float, list[tuple[float, str]]]:
    """Return the top of the scale and where its lines are, with their labels."""
    most = max((v for v in values if v is not None), default=0.0)
    if most <= 0:
        return 1.0, [(_HEIGHT - _BOTTOM, "0")]
    rough = most / _TICKS
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * f for f in (1, 2, 2.5, 5, 10) if scale * f >= rough * 0.999)
    top = math.ceil(most / step * 0.999) * step
    lines = [i * step for i in range(round(top / step) + 1)]
    return top, [(_HEIGHT - _BOTTOM - v / top * _depth(), compact(v)) for v in lines]


def _times(series: Series) -> list[tuple[float, str]]:
    """Return places and labels of the time axis, at round times."""
    span = series.width * series.count
    step = next((s for s in _TIME_STEPS if span / s <= _MOST_TIMES), 28 * _DAY)
    words: Callable[[float], str] = _date if step >= _DAY else _hour
    at = math.ceil(series.since / step) * step
    found = []
    while at < series.since + span:
        found.append((_LEFT + (at - series.since) / span * _plot(), words(at)))
        at += step
    return found


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %b")


def _hour(at: float) -> str:
    return _date(at) if at % _DAY == 0 else datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def _frame(
    title: str,
    words: str,
    grid: Sequence[tuple[float, str]],
    labels: Sequence[tuple[float, str]],
    inside: Markup,
) -> Markup:
    rule = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    text = Markup('<text class="y" x="{}" y="{:.1f}">{}</text>')
    rows = Markup("").join(
        rule.format(_LEFT, _WIDTH - _RIGHT, y, y) + text.format(_LEFT - 6, y + 3.5, word) for y, word in grid
    )
    columns = Markup("").join(
        Markup('<text class="x" x="{:.1f}" y="{}">{}</text>').format(x, _HEIGHT - 6, word)
        for x, word in labels
    )
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}"><desc>{}</desc>').format(
        _WIDTH, _HEIGHT, title, words
    )
    return head + rows + columns + inside + Markup("</svg>")
