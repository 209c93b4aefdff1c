"""Pictures of thefts: what copies are worth, and what they cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from assay.report.canvas import COLOURS, INK, MARKERS, Picture, draw, figure, label, log_axis, tidy
from assay.report.summary import Summary

if TYPE_CHECKING:
    from assay.extraction import ExtractionRecord

__all__ = ["theft_picture"]


def theft_picture(summary: Summary) -> Picture | None:
    """Draw fidelity and accuracy of every copy, and how they grow with queries."""
    thefts = [
        (entry.suspect, record)
        for entry in summary.thefts
        if (record := cast("ExtractionRecord", entry.record)).fidelity or record.accuracy
    ]
    if not thefts:
        return None
    curves = [(n, r) for n, r in thefts if len(r.curve) > 1]
    fig = figure(9.2, 1.3 + 0.32 * max(len(thefts), 5))
    panels = fig.subplots(1, 2 if curves else 1, squeeze=False, width_ratios=[3, 2] if curves else None)[0]
    axes = panels[0]
    for index, quantity in enumerate(("fidelity", "accuracy")):
        for row, (_, record) in enumerate(thefts):
            found = getattr(record, quantity)
            if found is None or not math.isfinite(found.value):
                continue
            axes.errorbar(
                [found.value],
                [row + 0.28 * index - 0.14],
                xerr=[[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]],
                color=COLOURS[index],
                marker=MARKERS[index],
                markersize=5,
                linewidth=1.5,
            )
        axes.plot([], [], color=COLOURS[index], marker=MARKERS[index], markersize=5, label=quantity)
    victims = {r.victim_accuracy.value for _, r in thefts if r.victim_accuracy}
    for place, accuracy in enumerate(sorted(victims)):
        text = "accuracy of the victim" if place == 0 else "_"
        axes.axvline(accuracy, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=text)
    axes.set_yticks(range(len(thefts)), [label(name) for name, _ in thefts])
    axes.set_ylim(len(thefts) - 0.5, -0.5)
    axes.set_xlabel("share of evaluation rows, 95 % interval")
    tidy(axes)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if curves:
        for index, (name, record) in enumerate(curves):
            panels[1].plot(
                [p.queries for p in record.curve],
                [p.fidelity for p in record.curve],
                color=COLOURS[(index + 2) % len(COLOURS)],
                marker=MARKERS[(index + 2) % len(MARKERS)],
                markersize=4.5,
                linewidth=1.5,
                label=label(name),
            )
        asked = [p.queries for _, r in curves for p in r.curve if p.queries > 0]
        log_axis(panels[1], min(asked, default=1), max(asked, default=1))
        panels[1].set_xlabel("queries of the victim (logarithmic)")
        panels[1].set_ylabel("fidelity")
        tidy(panels[1], grid="both")
        panels[1].legend(loc="best", frameon=False, fontsize=9, labelcolor=INK)
    fig.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    return draw(
        fig,
        "thefts",
        "What the copies are worth",
        "Fidelity: share of rows on which copy and victim agree, whether right or wrong. The intervals of "
        "one table share their evaluation rows.",
    )
