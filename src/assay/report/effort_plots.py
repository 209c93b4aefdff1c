"""Pictures of effort: queries a verdict, and how the evidence of a betting test grows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from assay.report.canvas import COLOURS, INK, MUTED, Picture, draw, figure, label, log_axis, tidy
from assay.report.p_value_plots import dot_rows
from assay.report.summary import Summary
from assay.report.words import name

__all__ = ["query_picture", "wealth_pictures"]

_LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_MOST_NAMED = 12
_LOG10 = math.log(10)
_LOWEST, _HIGHEST = -6.0, 12.0  # powers of ten; a bettor at -6 is ruined


def query_picture(summary: Summary) -> Picture | None:
    """Draw how many queries each verdict took."""
    spent = {(e.suspect, e.truth, e.evidence): v.queries for e, v in summary.verdicts() if v.queries > 0}
    if not spent:
        return None
    fig, axes = dot_rows(summary, spent)
    log_axis(axes, min(spent.values()), max(spent.values()))
    axes.set_xlabel("queries of the suspect (rows it answered, logarithmic)")
    return draw(
        fig,
        "queries",
        "Queries spent",
        "What each verdict cost. Tests that bet stop as soon as the evidence suffices; on an innocent "
        "model they go on to the end.",
    )


def wealth_pictures(summary: Summary) -> list[Picture]:
    """Draw the wealth of each betting test, one picture a kind of evidence."""
    pictures = []
    for index, evidence in enumerate(summary.evidence):
        paths = [
            (entry, verdict, _finite(path))
            for entry, verdict in summary.verdicts(evidence)
            if (path := verdict.samples.get("log_wealth", []))
        ]
        if not paths:
            continue
        fig = figure(9.2, 3.7)
        axes = fig.subplots()
        named = 0
        for entry, _, wealth in paths:
            steps = np.arange(1, len(wealth) + 1)
            if entry.truth == "independent":
                axes.plot(steps, wealth, color=MUTED, linewidth=0.9, alpha=0.7, zorder=2)
                continue
            style = {
                "color": COLOURS[named % len(COLOURS)],
                "linestyle": _LINES[(named // len(COLOURS)) % len(_LINES)],
            }
            text = label(entry.suspect) if named < _MOST_NAMED else "_"
            axes.plot(steps, wealth, linewidth=1.7, label=text, zorder=3, **style)
            axes.plot(steps[-1:], wealth[-1:], marker="o", markersize=4, color=style["color"], zorder=4)
            named += 1
        if any(entry.truth == "independent" for entry, *_ in paths):
            axes.plot([], [], color=MUTED, linewidth=0.9, label="independent models")
        for alpha in sorted({v.alpha for _, v, _ in paths}):
            axes.axhline(-math.log10(alpha), color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"1/α = {1 / alpha:g}: stolen",
                (1, -math.log10(alpha)),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
                color=INK,
                size=9,
            )
        log_axis(axes, 1, max(len(wealth) for *_, wealth in paths), margin=1.15)
        axes.set_ylim(bottom=max(_LOWEST, min(-2.0, *(float(wealth.min()) for *_, wealth in paths))) - 0.2)
        axes.set_xlabel("rows asked about (logarithmic)")
        axes.set_ylabel("wealth, power of ten")
        tidy(axes, grid="both")
        fig.legend(loc="outside right upper", frameon=False, fontsize=9, labelcolor=INK)
        pictures.append(
            draw(
                fig,
                f"wealth-{index}",
                f"Wealth of the bets: {name(evidence)}",
                "A bettor who cannot know the secret stakes a part of his wealth on every row, starting "
                "with 1. If the suspect is independent of the secret, his wealth ever passes the dashed line "
                "with probability at most α.",
            )
        )
    return pictures


def _finite(log_wealth: list[float]) -> NDArray[np.float64]:
    """Return the wealth in powers of ten, within what a picture can show."""
    wealth = np.asarray(log_wealth, dtype=np.float64) / _LOG10
    return np.nan_to_num(wealth, nan=0.0, posinf=_HIGHEST, neginf=2 * _LOWEST)
