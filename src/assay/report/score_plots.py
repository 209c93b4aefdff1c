"""Pictures of scores: what the suspect's answers are worth on private and on control rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.report.canvas import COLOURS, INK, MUTED, Picture, draw, figure, label, tidy
from assay.report.entries import Entry
from assay.report.summary import Summary
from assay.report.words import name, p_value
from assay.result import Verdict

__all__ = ["score_pictures"]

_Sides = tuple[NDArray[Any], NDArray[Any]]

_MOST_PANELS = 24
_BINS, _DECOY_BINS = 25, 16
_COLUMNS = 6


def score_pictures(summary: Summary) -> list[Picture]:
    """Draw small multiples of the per-row scores, one picture a kind of evidence."""
    pictures = []
    for index, evidence in enumerate(summary.evidence):
        found = [(e, v) for e, v in summary.verdicts(evidence) if _sides(v) is not None]
        shown = found[:_MOST_PANELS]
        if not shown:
            continue
        decoys = "decoys" in shown[0][1].samples
        panels, silent = _without_silent_rows(shown)
        fig = _multiples(shown, panels)
        more = (
            f" The first {len(shown)} of {len(found)} suspects are shown." if len(found) > len(shown) else ""
        )
        if silent:
            more += f" Rows with a score near 0 ({silent:.0%}), which tell nothing, are left out."
        caption = (
            "Grey: match rates that other keys would have had with the same answers. Line: the true key. "
            "A model that never met the key keeps it within the grey."
            if decoys
            else "Up: private rows, which trained the victim. Down: control rows, which trained nothing. "
            "Short vertical lines are means. For an independent model both sides look alike."
        )
        pictures.append(draw(fig, f"scores-{index}", f"Scores: {name(evidence)}", caption + more))
    return pictures


def _without_silent_rows(shown: list[tuple[Entry, Verdict]]) -> tuple[list[_Sides], float]:
    """Return the two sides of each suspect and the share of rows left out.

    Where most rows have no weight they would hide the others.
    """
    panels = [s for _, v in shown if (s := _sides(v)) is not None]
    size = np.abs(np.concatenate([np.concatenate(s) for s in panels]))
    limit = 0.02 * float(size.max())
    silent = float((size < limit).mean())
    if silent < 0.5 or "decoys" in shown[0][1].samples:  # noqa: PLR2004
        return panels, 0.0
    return [(a[np.abs(a) >= limit], b[np.abs(b) >= limit]) for a, b in panels], silent


def _multiples(shown: list[tuple[Entry, Verdict]], sides: list[_Sides]) -> Any:
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    fig = figure(max(3.2, 9.2 * columns / _COLUMNS), 1.25 * rows + 0.5)
    panels = fig.subplots(rows, columns, squeeze=False, sharex=True)
    everything = np.concatenate([np.concatenate(s) for s in sides])
    low, high = (float(x) for x in np.quantile(everything, [0.002, 0.998]))
    if not low < high:
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, 1 + (_DECOY_BINS if "decoys" in shown[0][1].samples else _BINS))
    for axes, (entry, verdict), pair in zip(panels.flat, shown, sides, strict=False):
        (_decoys if "decoys" in verdict.samples else _mirrored)(axes, *pair, bins)
        colour = COLOURS[1] if verdict.stolen else INK
        axes.set_title(label(entry.suspect, 19), loc="left", pad=11)
        tidy(axes, grid="")
        axes.title.set(size=8.5)
        axes._left_title.set(size=8.5, color=INK)  # noqa: SLF001 - left titles have no public handle
        axes.annotate(
            f"p = {p_value(verdict.p_value)}",
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, 2),
            textcoords="offset points",
            color=colour,
            size=8,
        )
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="x", labelsize=8)
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_visible(False)
    fig.supxlabel("match rate" if "decoys" in shown[0][1].samples else "score of a row", size=9.5, color=INK)
    return fig


def _mirrored(axes: Any, private: NDArray[Any], control: NDArray[Any], bins: NDArray[Any]) -> None:
    """Draw private rows upwards and control rows downwards, as shares of their side."""
    tallest = 0.0
    for sign, values, colour in ((1, private, COLOURS[1]), (-1, control, COLOURS[0])):
        if not len(values):
            continue
        clipped = np.clip(values, bins[0], bins[-1])
        heights = np.histogram(clipped, bins)[0] / len(values)
        tallest = max(tallest, float(heights.max()))
        axes.stairs(sign * heights, bins, fill=True, color=colour, alpha=0.75, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.7)
    for sign, values, colour in ((1, private, COLOURS[1]), (-1, control, COLOURS[0])):
        if len(values):
            mean = float(np.clip(values.mean(), bins[0], bins[-1]))
            axes.plot([mean, mean], [0, sign * 1.05 * tallest], color=colour, linewidth=1.3)
    if tallest:
        axes.set_ylim(-1.1 * tallest, 1.1 * tallest)


def _decoys(axes: Any, key: NDArray[Any], decoys: NDArray[Any], bins: NDArray[Any]) -> None:
    axes.stairs(np.histogram(decoys, bins)[0], bins, fill=True, color=MUTED, alpha=0.6, linewidth=0)
    axes.axvline(float(key[0]), color=COLOURS[1], linewidth=1.8)


def _sides(verdict: Verdict) -> _Sides | None:
    for first, second in (("private", "control"), ("key", "decoys")):
        if first in verdict.samples and second in verdict.samples:
            a, b = (np.asarray(verdict.samples[k], dtype=float) for k in (first, second))
            a, b = a[np.isfinite(a)], b[np.isfinite(b)]
            return (a, b) if len(a) and len(b) else None
    return None
