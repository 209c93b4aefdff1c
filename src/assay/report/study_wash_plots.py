"""Pictures of washed copies: the accuracy that each removal costs against the evidence that it leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from assay.report.canvas import COLOURS, INK, MARKERS, MUTED, Picture, draw, figure, label, tidy
from assay.report.multiples import MOST_LINES, MOST_PANELS, TEST, cut, legend, panels, setting_name, subject
from assay.report.study_findings import Findings
from assay.study.columns import Rows, grouped, number_of
from assay.study.trade_offs import pareto_front

__all__ = ["wash_pictures"]

_MOST_COLUMNS, _MOST_REMOVALS = 4, 40
_SQUEEZED = 30.0  # percentage points after which the axis is not worth its room
_CHANCE = 0.04


def wash_pictures(findings: Findings) -> list[Picture]:
    """Draw accuracy lost against evidence left for every removal, one picture a victim and evidence.

    Few removals have marks of their own, in one panel a test. Many have numbers, in one
    column an extraction; match rates are drawn below where they were measured.
    """
    pictures = []
    known = [row for row in findings.trade_offs if number_of(row["lost"]) is not None]
    groups = grouped(known, ("victim", "evidence"))
    for index, ((victim, evidence), rows) in enumerate(groups.items()):
        if all(row["removal"] in (None, "none") for row in rows):
            continue
        title = f"What washing costs and leaves: {subject(victim, evidence, groups)}"
        removals = list(dict.fromkeys(row["removal"] for row in rows))
        if len(removals) <= len(MARKERS):
            pictures.append(_marked(f"washed-{index}", title, rows, removals))
            continue
        tests = grouped(rows, TEST)
        for place, same in enumerate(tests.values()):
            name = f"washed-{index}" + (f"-{place}" if place else "")
            pictures.append(_numbered(name, title, same, removals))
    return pictures


def _marked(key: str, title: str, rows: Rows, removals: Sequence[str | None]) -> Picture:
    attacks = list(dict.fromkeys(row["extraction"] for row in rows))
    cells = list(grouped(rows, TEST).items())
    fig, grid = panels(min(len(cells), MOST_PANELS), height=2.9)
    for axes, (test, same) in zip(grid, cells, strict=False):
        for (attack,), points in grouped(same, ["extraction"]).items():
            colour = COLOURS[attacks.index(attack) % len(COLOURS)]
            _staircase(axes, points, "evidence_left", colour)
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
        axes.axhline(-math.log10(test[-1]), color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_ylim(bottom=min(0.0, *(row["evidence_left"] for row in rows)) - 0.15)
        axes.set_title(label(setting_name(dict(zip(TEST, test, strict=True)), rows), 34))
        tidy(axes, grid="both")
    fig.supxlabel("accuracy lost, percentage points", size=9.5, color=INK)
    fig.supylabel("evidence left, −log₁₀ p", size=9.5, color=INK)
    for place, attack in enumerate(attacks[:MOST_LINES]):
        grid[0].plot([], [], linewidth=2, color=COLOURS[place % len(COLOURS)], label=label(str(attack)))
    for place, removal in enumerate(removals[:MOST_LINES]):
        marker = MARKERS[place % len(MARKERS)]
        grid[0].plot([], [], marker=marker, linestyle="none", color=INK, label=label(_name(removal)))
    legend(fig, len(attacks) + len(removals), grid[0])
    caption = (
        "Medians over the repetitions; colours are extractions, marks are removals. Above the dashed "
        "line (α) the copy is found to be stolen. Filled marks are on the front: no other removal of "
        "this copy costs as little accuracy and leaves as little evidence. A test that stops at α leaves"
        " no more than that."
    )
    caption += cut(min(len(cells), MOST_PANELS), len(cells), "settings")
    return draw(fig, key, title, caption)


def _numbered(key: str, title: str, rows: Rows, removals: Sequence[str | None]) -> Picture:
    washed = {row["extraction"] for row in rows if row["removal"] not in (None, "none")}
    attacks = [name for name in dict.fromkeys(row["extraction"] for row in rows) if name in washed]
    shown, named = attacks[:_MOST_COLUMNS], list(removals[:_MOST_REMOVALS])
    sides = ["evidence_left"] + (["match"] if any(row.get("match") is not None for row in rows) else [])
    fig = figure(9.2, 1.0 + 0.16 * math.ceil(len(named) / 3) + 2.7 * len(sides))
    grid = fig.subplots(len(sides), len(shown), squeeze=False, sharex="col", sharey="row")
    for line, side in enumerate(sides):
        for column, attack in enumerate(shown):
            axes = grid[line][column]
            points = [row for row in rows if row["extraction"] == attack and row[side] is not None]
            _staircase(axes, points, side, COLOURS[0])
            _numbers(axes, points, side, named)
            if side == "evidence_left":
                axes.axhline(-math.log10(rows[0]["alpha"]), color=INK, linewidth=1, linestyle=(0, (4, 3)))
                axes.set_title(label(str(attack), 34))
                axes.set_ylim(bottom=-0.06 * max(1.0, *(row[side] for row in rows)))
            else:
                axes.set_ylim(-_CHANCE, 1 + _CHANCE)
            axes.axvline(5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            if any(100 * row["lost"] > _SQUEEZED for row in points):
                axes.set_xscale("symlog", linthresh=10, linscale=2)
                axes.set_xticks([-5, 0, 5, 10, 30, 60], ["−5", "0", "5", "10", "30", "60"])
            tidy(axes, grid="both")
        grid[line][0].set_ylabel("evidence left, −log₁₀ p" if side == "evidence_left" else "match rate left")
    fig.supxlabel("accuracy lost, percentage points", size=9.5, color=INK)
    for number, removal in enumerate(named):
        grid[0][0].plot([], [], linestyle="none", label=label(f"{number}  {_name(removal)}", 40))
    handles = grid[0][0].get_legend_handles_labels()
    fig.legend(
        *handles,
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=0,
    )
    caption = (
        "Medians over the repetitions; numbers are removals. Above the dashed line (α) the copy is found to "
        "be stolen; right of the dotted one it lost more than 5 points. The stairs are the front: no other "
        "removal costs as little accuracy and leaves as little. Everything that can be asked was asked."
    )
    caption += cut(len(shown), len(attacks), "extractions") + cut(len(named), len(removals), "removals")
    return draw(fig, key, title, caption)


def _numbers(axes: Any, points: Rows, side: str, named: Sequence[str | None]) -> None:
    """Write the number of each removal at its place."""
    for row in points:
        if row["removal"] not in named:
            continue
        stolen = row["removal"] in (None, "none")
        axes.plot(
            [100 * row["lost"]],
            [row[side]],
            marker="o",
            markersize=10,
            linestyle="none",
            markeredgecolor=COLOURS[0],
            markerfacecolor="none" if stolen else "white",
            zorder=3,
        )
        axes.annotate(
            str(named.index(row["removal"])),
            (100 * row["lost"], row[side]),
            ha="center",
            va="center",
            size=6.5,
            color="black",
            zorder=4,
        )


def _staircase(axes: Any, rows: Rows, side: str, colour: str) -> None:
    """Draw the front of the removals of one copy."""
    places = [(100 * row["lost"], row[side]) for row in rows]
    front = sorted(place for place, good in zip(places, pareto_front(places), strict=True) if good)
    axes.step(
        [x for x, _ in front], [y for _, y in front], where="post", color=colour, linewidth=1, alpha=0.8
    )


def _name(removal: Any) -> str:
    return "as stolen" if removal in (None, "none") else str(removal)
