"""Pictures of what thieves pay and get: fidelity by queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assay.report.canvas import COLOURS, INK, MARKERS, Picture, draw, figure, label, tidy
from assay.report.multiples import (
    MOST_LINES,
    cut,
    legend,
    line_style,
    small_log_axis,
    subject,
)
from assay.report.study_findings import Findings
from assay.study.columns import grouped, number_of
from assay.study.trade_offs import fidelity_curve, merge_shared

__all__ = ["copy_pictures"]


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


def _style(place: int) -> dict[str, Any]:
    marker = MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]
    return {**line_style(place), "marker": marker}
