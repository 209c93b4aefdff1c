"""Pictures of what thieves pay and get: fidelity by queries, accuracy lost against evidence left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.report.canvas import COLOURS, INK, MARKERS, Picture, draw, figure, label, tidy
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
from assay.study.columns import grouped, number_of
from assay.study.trade_offs import fidelity_curve, merge_shared

__all__ = ["copy_pictures", "wash_pictures"]


def copy_pictures(findings: Findings) -> list[Picture]:
    """Draw how fidelity grows with queries, and which extractions are on the front; one picture a victim."""
    pictures = []
    groups = grouped(merge_shared(findings.tables.rows("extractions")), ("victim", "evidence"))
    for index, ((victim, evidence), rows) in enumerate(groups.items()):
        cells = list(grouped(rows, ["extraction"]).items())
        curves = [(name[0], fidelity_curve(same)) for name, same in cells]
        known = [(n, c) for n, c in curves if any(p["queries"] > 0 and p["fidelity"] is not None for p in c)]
        shown = known[:MOST_LINES]
        if not shown:
            continue
        front = [
            row
            for row in findings.extractions
            if (row["victim"], row["evidence"]) == (victim, evidence) and row["fidelity"] is not None
        ]
        fig = figure(9.2, 3.9)
        left, right = fig.subplots(1, 2, sharey=True, width_ratios=[1.25, 1])
        asked: list[float] = []
        for place, (_name, curve) in enumerate(shown):
            points = [p for p in curve if p["queries"] > 0 and p["fidelity"] is not None]
            x = [p["queries"] for p in points]
            asked += x
            style = _style(place)
            left.fill_between(
                x,
                [p["fidelity_least"] for p in points],
                [p["fidelity_most"] for p in points],
                color=style["color"],
                alpha=0.15,
                linewidth=0,
            )
            left.plot(x, [p["fidelity"] for p in points], markersize=4.5, linewidth=1.6, **style)
        _draw_front(right, front, [name for name, _ in shown])
        for axes in (left, right):
            small_log_axis(axes, min(asked), max([*asked, *(row["queries"] or 1 for row in front)]))
            axes.set_xlabel("queries of the victim (logarithmic)")
            axes.set_title("As they grow" if axes is left else "At the end, and the front")
            tidy(axes, grid="both")
        left.set_ylabel("fidelity")
        for place, (name, _) in enumerate(shown):
            left.plot([], [], markersize=4.5, label=label(str(name)), **_style(place))
        legend(fig, len(shown), left)
        caption = (
            "Left: mean fidelity of the copies, shaded from the least to the largest of the repetitions. "
            "Right: copies at the end, with the line that no other extraction passes to the upper left "
            "(filled marks)."
        )
        caption += cut(len(shown), len(known), "extractions")
        pictures.append(
            draw(fig, f"copies-{index}", f"Fidelity: {subject(victim, evidence, groups)}", caption)
        )
    return pictures


def wash_pictures(findings: Findings) -> list[Picture]:
    """Draw accuracy lost against evidence left for every removal, one picture a victim and evidence."""
    pictures = []
    known = [row for row in findings.trade_offs if number_of(row["lost"]) is not None]
    groups = grouped(known, ("victim", "evidence"))
    for index, ((victim, evidence), rows) in enumerate(groups.items()):
        if all(row["removal"] in (None, "none") for row in rows):
            continue
        attacks = list(dict.fromkeys(row["extraction"] for row in rows))
        removals = list(dict.fromkeys(row["removal"] for row in rows))
        cells = list(grouped(rows, TEST).items())
        fig, grid = panels(min(len(cells), MOST_PANELS), height=2.9)
        for axes, (key, same) in zip(grid, cells, strict=False):
            for (attack,), points in grouped(same, ["extraction"]).items():
                colour = COLOURS[attacks.index(attack) % len(COLOURS)]
                _staircase(axes, points, colour)
                for row in points:
                    axes.plot(
                        [100 * row["lost"]],
                        [row["evidence_left"]],
                        marker=MARKERS[removals.index(row["removal"]) % len(MARKERS)],
                        markersize=6,
                        linestyle="none",
                        markeredgecolor=colour,
                        markerfacecolor=colour if row["front"] else "none",
                        zorder=3,
                    )
            axes.axhline(-math.log10(key[-1]), color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.set_ylim(bottom=min(0.0, *(row["evidence_left"] for row in rows)) - 0.15)
            axes.set_title(label(setting_name(dict(zip(TEST, key, strict=True)), rows), 34))
            tidy(axes, grid="both")
        fig.supxlabel("accuracy lost, percentage points", size=9.5, color=INK)
        fig.supylabel("evidence left, −log₁₀ p", size=9.5, color=INK)
        for place, attack in enumerate(attacks[:MOST_LINES]):
            grid[0].plot([], [], linewidth=2, color=COLOURS[place % len(COLOURS)], label=label(str(attack)))
        for place, removal in enumerate(removals[:MOST_LINES]):
            name = "as stolen" if removal in (None, "none") else str(removal)
            marker = MARKERS[place % len(MARKERS)]
            grid[0].plot([], [], marker=marker, linestyle="none", color=INK, label=label(name))
        legend(fig, len(attacks) + len(removals), grid[0])
        caption = (
            "Medians over the repetitions; colours are extractions, marks are removals. Above the dashed "
            "line (α) the copy is found to be stolen. Filled marks are on the front: no other removal of "
            "this copy costs as little accuracy and leaves as little evidence. A test that stops at α leaves"
            " no more than that."
        )
        caption += cut(min(len(cells), MOST_PANELS), len(cells), "settings")
        title = f"What washing costs and leaves: {subject(victim, evidence, groups)}"
        pictures.append(draw(fig, f"washed-{index}", title, caption))
    return pictures


def _draw_front(axes: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    points = [row for row in rows if number_of(row["queries"]) and row["extraction"] in names]
    front = sorted((row["queries"], row["fidelity"]) for row in points if row["front"])
    axes.step([x for x, _ in front], [y for _, y in front], where="post", color=INK, linewidth=1)
    for row in points:
        style = _style(names.index(row["extraction"]))
        fill = style["color"] if row["front"] else "none"
        axes.plot(
            [row["queries"]],
            [row["fidelity"]],
            markersize=7,
            markerfacecolor=fill,
            zorder=3,
            **{**style, "linestyle": "none"},
        )


def _staircase(axes: Any, rows: Sequence[Mapping[str, Any]], colour: str) -> None:
    front = sorted((100 * row["lost"], row["evidence_left"]) for row in rows if row["front"])
    axes.step(
        [x for x, _ in front], [y for _, y in front], where="post", color=colour, linewidth=1, alpha=0.8
    )


def _style(place: int) -> dict[str, Any]:
    marker = MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]
    return {**line_style(place), "marker": marker}
