"""Pictures of p-values: one row a suspect, and independent models against the uniform law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import ksone

from assay.report.canvas import COLOURS, INK, MARKERS, MUTED, Picture, draw, figure, label, log_axis, tidy
from assay.report.summary import Summary

__all__ = ["dot_rows", "null_picture", "p_value_picture"]

_SMALLEST = 1e-12
_FEWEST_NULL = 3
_CONFIDENCE = 0.95


def p_value_picture(summary: Summary) -> Picture | None:
    """Draw the p-value of each suspect under each kind of evidence, on a logarithmic axis."""
    found = [
        (entry.suspect, entry.truth, entry.evidence, min(1.0, max(v.p_value, _SMALLEST)))
        for entry, v in summary.verdicts()
        if math.isfinite(v.p_value)
    ]
    if not found:
        return None
    fig, axes = dot_rows(summary, {(s, t, e): p for s, t, e, p in found})
    alphas = sorted({v.alpha for _, v in summary.verdicts()})
    log_axis(axes, min(*(p for *_, p in found), *alphas), 1.0)
    axes.set_xlabel("p-value (logarithmic; further left is stronger evidence of theft)")
    for alpha in alphas:
        axes.axvline(alpha, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"α = {alpha:g}",
            (alpha, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4, 3),
            textcoords="offset points",
            color=INK,
            size=9,
            ha="right",
        )
    caption = "Left of the dashed line the decision is 'stolen'. "
    if min(p for *_, p in found) <= _SMALLEST:
        caption += f"Values below {_SMALLEST:g} are drawn there. "
    if any(v.test == "coin-betting" for _, v in summary.verdicts()):
        caption += "A sequential test stops at α, so that its p-values lie close to the line however clear."
    return draw(fig, "p-values", "p-value of each suspect", caption.strip())


def null_picture(summary: Summary) -> Picture | None:
    """Draw the distribution of p-values of models known to be independent, against the uniform law."""
    groups = []
    for evidence in summary.evidence:
        p = [v.p_value for e, v in summary.verdicts(evidence) if e.truth == "independent"]
        values = np.sort([x for x in p if math.isfinite(x)])
        if len(values) >= _FEWEST_NULL:
            groups.append((evidence, values))
    if not groups:
        return None
    columns = min(5, len(groups))
    rows = -(-len(groups) // columns)
    fig = figure(min(9.2, 2.25 * columns + 0.3), 2.1 * rows + 0.35)
    panels = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for index, axes in enumerate(panels.flat):
        if index >= len(groups):
            axes.set_visible(False)
            continue
        evidence, values = groups[index]
        n = len(values)
        grid = np.linspace(0, 1, 101)
        margin = float(ksone.ppf(_CONFIDENCE, n))
        axes.fill_between(grid, grid, np.minimum(grid + margin, 1), color=MUTED, alpha=0.22, linewidth=0)
        axes.plot(grid, grid, color=MUTED, linewidth=1)
        steps = np.concatenate([[0.0], values, [1.0]])
        share = np.concatenate([[0.0], np.arange(1, n + 1) / n, [1.0]])
        axes.step(steps, share, where="post", color=COLOURS[0], linewidth=1.8)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_title(f"{label(evidence, 17)} ({n})")
        tidy(axes, grid="both")
    fig.supxlabel("p-value", size=9.5, color=INK)
    fig.supylabel("share of models", size=9.5, color=INK)
    return draw(
        fig,
        "independent",
        "p-values of independent models",
        "Share of models with at most this p-value; in brackets their number. A valid test keeps the line "
        "near or below the diagonal; above the grey band (one-sided Kolmogorov-Smirnov, 95 %) it would "
        "accuse too often. Sequential tests lie below, because they are conservative. Models that are "
        "tested against the same secret share its luck, so that the band, which takes them as independent "
        "draws, is a guide and no test.",
    )


def dot_rows(summary: Summary, values: Mapping[tuple[str, Any, str], float]) -> tuple[Any, Any]:
    """Return figure and axes with a row a suspect and a mark a kind of evidence."""
    rows = len(summary.suspects)
    fig = figure(9.2, 0.9 + 0.27 * max(rows, 3))
    axes = fig.subplots()
    spread = np.linspace(-0.26, 0.26, len(summary.evidence)) if len(summary.evidence) > 1 else [0.0]
    for index, evidence in enumerate(summary.evidence):
        points = [
            (x, row + spread[index])
            for row, (suspect, truth) in enumerate(summary.suspects)
            if (x := values.get((suspect, truth, evidence))) is not None
        ]
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            linestyle="none",
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            markeredgewidth=0,
            color=COLOURS[index % len(COLOURS)],
            label=label(evidence),
        )
    axes.set_yticks(range(rows), [label(suspect) for suspect, _ in summary.suspects])
    axes.set_ylim(rows - 0.5, -0.5)
    tidy(axes, grid="x")
    for row in range(1, rows):
        known = summary.suspects[row][1] != summary.suspects[row - 1][1]
        axes.axhline(row - 0.5, color=MUTED, linewidth=0.9 if known else 0.25)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    fig.legend(
        loc="outside upper center",
        ncols=min(5, max(1, len(summary.evidence))),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.2,
    )
    return fig, axes
