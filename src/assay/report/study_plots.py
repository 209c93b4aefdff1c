"""Pictures of verdicts over many repetitions: who was found out, after how many queries, at which level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.report import words
from assay.report.canvas import COLOURS, INK, MARKERS, MUTED, Picture, draw, figure, label, tidy
from assay.report.multiples import (
    MOST_LINES,
    MOST_PANELS,
    TEST,
    cut,
    legend,
    line_style,
    panels,
    setting_name,
    small_log_axis,
    subject,
)
from assay.report.study_findings import Findings
from assay.study.columns import Rows, grouped
from assay.study.power_summary import p_value_of, power_curve

__all__ = ["power_pictures", "reach_pictures"]

_SMALLEST = 1e-12
_SAME = 1.1
_MOST_ROWS, _MOST_MARKS = 40, 12
_BY_QUERIES = (
    "Share of the repetitions in which the copy was found to be stolen within so many queries. A dot ends "
    "each line where the longest verdict did."
)
_BY_LEVEL = (
    "Share of the repetitions with a p-value of at most a. These tests spend much the same on every suspect,"
    " so that only the level tells suspects apart. Dashed: α."
)


def reach_pictures(findings: Findings) -> list[Picture]:
    """Draw which share of each kind of copy was found out, one picture a victim."""
    pictures: list[Picture] = []
    for index, ((victim,), rows) in enumerate(grouped(findings.power, ["victim"]).items()):
        kinds = list(grouped(rows, ("evidence", *TEST)).items())
        suspects = list(grouped(rows, ("extraction", "removal")))
        shown = suspects[:_MOST_ROWS]
        marks = kinds[:_MOST_MARKS]
        fig = figure(9.2, 1.0 + 0.16 * max(len(shown), 3) * max(1.6, len(marks) ** 0.75))
        axes = fig.subplots()
        offsets = np.linspace(-0.3, 0.3, len(marks)) if len(marks) > 1 else [0.0]
        for place, (kind, same) in enumerate(marks):
            cells = {(row["extraction"], row["removal"]): row for row in same}
            points = [(i, cells[s]) for i, s in enumerate(shown) if s in cells]
            share = np.array([row["share"] for _, row in points])
            low = np.array([row["share_low"] for _, row in points])
            high = np.array([row["share_high"] for _, row in points])
            axes.errorbar(
                share,
                [i + offsets[place] for i, _ in points],
                xerr=[np.maximum(share - low, 0), np.maximum(high - share, 0)],
                linestyle="none",
                elinewidth=1.3,
                marker=MARKERS[(place + place // len(MARKERS)) % len(MARKERS)],
                markersize=5,
                color=COLOURS[place % len(COLOURS)],
                label=label(setting_name(dict(zip(("evidence", *TEST), kind, strict=True)), rows), 40),
            )
        axes.set_yticks(range(len(shown)), [label(_suspect(*s), 34) for s in shown])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.5, -0.5))
        axes.set_xlabel("share found to be stolen, 95 % interval")
        tidy(axes)
        for row in range(1, len(shown)):
            axes.axhline(row - 0.5, color=MUTED, linewidth=0.25)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        legend(fig, len(marks))
        caption = "Each mark is one kind of copy over all repetitions, with its Clopper-Pearson interval."
        caption += cut(len(shown), len(suspects), "kinds of copies") + cut(len(marks), len(kinds), "tests")
        title = f"What was found out about {words.name(str(victim), 40)}" if victim else "What was found out"
        pictures.append(draw(fig, f"reach-{index}", title, caption))
    return pictures


def power_pictures(findings: Findings) -> list[Picture]:
    """Draw the share of repetitions found out, one or two pictures a victim and kind of evidence.

    Tests that stop when they know enough are drawn by queries; tests of fixed size, for
    which queries say nothing, by the level a at which p is read.
    """
    pictures: list[Picture] = []
    groups = grouped(findings.tables.rows("verdicts"), ("victim", "evidence"))
    for (victim, evidence), rows in groups.items():
        fixed = {test: _fixed(same) for test, same in grouped(rows, TEST).items()}
        for by_level in (False, True):
            chosen = [row for row in rows if fixed[tuple(row.get(name) for name in TEST)] == by_level]
            if chosen:
                what = "level" if by_level else "queries"
                title = f"Power by {what}: {subject(victim, evidence, groups)}"
                pictures.append(_power(f"power-{len(pictures)}", title, chosen, by_level=by_level))
    return pictures


def _power(key: str, title: str, rows: Rows, *, by_level: bool) -> Picture:
    keys = ("removal", *TEST)
    cells = list(grouped(rows, keys).items())
    attacks = list(dict.fromkeys(row.get("extraction") for row in rows))
    if by_level:
        low, high = max(min([p_value_of(row) for row in rows]), _SMALLEST), 1.0
    else:
        asked = [row["queries"] for row in rows if row.get("queries")]
        low, high = min(asked, default=1), max(asked, default=1)
    fig, grid = panels(min(len(cells), MOST_PANELS))
    for axes, (setting, same) in zip(grid, cells, strict=False):
        small_log_axis(axes, low, high)
        for (name,), verdicts in grouped(same, ["extraction"]).items():
            place = attacks.index(name)
            if place < MOST_LINES:
                x, y = _level_steps(verdicts) if by_level else _query_steps(verdicts)
                x = np.maximum(x, axes.get_xlim()[0])
                axes.step(x, y, where="post", linewidth=1.8, **line_style(place))
                if not by_level:
                    axes.plot(x[-1:], y[-1:], marker="o", markersize=3.5, **line_style(place))
        if by_level:
            axes.axvline(setting[-1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(ylim=(0, 1.03), yticks=(0, 0.25, 0.5, 0.75, 1))
        axes.set_title(label(setting_name(dict(zip(keys, setting, strict=True)), rows), 34))
        tidy(axes, grid="both")
    where = "level a (logarithmic)" if by_level else "queries of the suspect (logarithmic)"
    fig.supxlabel(where, size=9.5, color=INK)
    fig.supylabel("share with p ≤ a" if by_level else "share found stolen", size=9.5, color=INK)
    for place, attack in enumerate(attacks[:MOST_LINES]):
        grid[0].plot([], [], linewidth=1.8, label=label(str(attack)), **line_style(place))
    legend(fig, len(attacks), grid[0])
    caption = _BY_LEVEL if by_level else _BY_QUERIES
    caption += cut(min(len(cells), MOST_PANELS), len(cells), "settings")
    caption += cut(min(len(attacks), MOST_LINES), len(attacks), "extractions")
    return draw(fig, key, title, caption)


def _fixed(verdicts: Rows) -> bool:
    """Whether a test spends much the same on every suspect."""
    asked = [row.get("queries") or 0 for row in verdicts]
    return max(asked) <= _SAME * min(asked)


def _query_steps(verdicts: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    curve = power_curve(verdicts)
    return np.array([float(p["queries"]) for p in curve]), np.array([p["share"] for p in curve])


def _level_steps(verdicts: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p = np.sort([max(p_value_of(row), _SMALLEST) for row in verdicts])
    share = np.arange(len(p) + 1) / len(p)
    return np.concatenate([[0.0], p, [1.0]]), np.concatenate([share, [1.0]])


def _suspect(extraction: str | None, removal: str | None) -> str:
    return f"{extraction}" if removal in (None, "none") else f"{extraction} + {removal}"
