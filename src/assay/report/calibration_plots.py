"""Pictures of a calibration: who pays what, how prices differ, and when the alarm comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from assay.gateway.calibrate import CalibrationRecord
from assay.gateway.calibrate.record import AttackerRow, Histogram
from assay.report.canvas import COLOURS, INK, MARKERS, MUTED, Picture, draw, figure, label, log_axis, tidy

__all__ = ["calibration_pictures"]

_WIDTH = 9.2
_PANEL_COLUMNS = 4
_MOST_POOLS = 12
_SHOWN_PROFILES = ("typical", "harder", "bursty")


def calibration_pictures(record: CalibrationRecord) -> dict[str, Picture]:
    """Draw all pictures of a calibration, by key.

    Parameters
    ----------
    record
        What a calibration found.
    """
    made = (_overheads(record), _plans(record), _bills(record), _prices(record), _paths(record))
    return {picture.key: picture for picture in made}


def _overheads(record: CalibrationRecord) -> Picture:
    rows = record.honest
    fig = figure(_WIDTH, 1.25 + 0.36 * len(rows))
    axes = fig.subplots()
    pricing = record.estimator_seconds / record.inference_seconds
    places = np.arange(len(rows))
    solving = [max(0.0, row.overhead - 1.0 - pricing) for row in rows]
    for left, width, colour, text in (
        (np.zeros(len(rows)), np.ones(len(rows)), MUTED, "inference"),
        (np.ones(len(rows)), np.full(len(rows), pricing), COLOURS[2], "pricing"),
        (np.full(len(rows), 1.0 + pricing), np.asarray(solving), COLOURS[0], "solving"),
    ):
        axes.barh(places, width, left=left, height=0.56, color=colour, label=text, alpha=0.85)
    axes.scatter(
        [row.worst for row in rows],
        places,
        marker="|",
        s=130,
        color=INK,
        linewidth=1.8,
        zorder=4,
        label="one account in twenty pays more",
    )
    axes.axvline(record.limit, color=COLOURS[1], linewidth=1.3, linestyle=(0, (4, 3)), label="limit")
    for place, row in zip(places, rows, strict=True):
        axes.annotate(
            f"{row.overhead:.2f}",
            (max(row.overhead, row.worst), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            size=9,
            color=INK,
        )
    axes.set_yticks(places, [label(row.name) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.12 * max(record.limit, *(row.worst for row in rows)))
    axes.set_xlabel("time a query, in plain inferences")
    _quiet_rows(axes)
    fig.legend(loc="outside upper left", ncols=5, frameon=False, fontsize=9, labelcolor=INK)
    return draw(
        fig,
        "overheads",
        "What honest users pay",
        "Mean of each honest profile on traffic that nothing was fitted on: inference, pricing and solving "
        "together, at the policy's client rate.",
    )


def _plans(record: CalibrationRecord) -> Picture:
    rows = sorted(record.attackers, key=lambda row: row.best.ratio)
    quantities: tuple[tuple[str, Callable[[AttackerRow], float]], ...] = (
        ("cheapest plan of all", lambda row: row.best.ratio),
        ("any number of accounts", lambda row: row.stateless),
        ("best split", lambda row: row.split.ratio),
        ("best padding", lambda row: row.padded.ratio),
        ("one account, after 100 queries", lambda row: row.after_100),
        ("one account, whole theft", lambda row: row.single),
    )
    fig = figure(_WIDTH, 1.5 + 0.4 * len(rows))
    axes = fig.subplots()
    values = [f(row) for row in rows for _, f in quantities]
    low, high = min(0.5, *values), max(10.0, *values)
    for place, row in enumerate(rows):
        if not row.told_apart:
            axes.axhspan(place - 0.5, place + 0.5, color=MUTED, alpha=0.13, linewidth=0)
    for index, (text, f) in enumerate(quantities):
        offset = (index - (len(quantities) - 1) / 2) * 0.1
        axes.scatter(
            [f(row) for row in rows],
            np.arange(len(rows)) + offset,
            marker=MARKERS[index],
            s=34,
            color=COLOURS[index],
            label=text,
            zorder=3,
        )
    log_axis(axes, low, high)
    _plain_numbers(axes)
    axes.axvline(1, color=INK, linewidth=1)
    axes.axvline(3, color=COLOURS[1], linewidth=1.3, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [label(row.name) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("work for a useful query, in average honest queries (logarithmic)")
    _quiet_rows(axes)
    fig.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    return draw(
        fig,
        "attackers",
        "What thieves pay",
        "Left of the dashed line a useful query costs less than three honest ones. Grey rows are pools "
        "that the estimator does not tell from honest traffic.",
    )


def _bills(record: CalibrationRecord) -> Picture:
    fig = figure(_WIDTH, 3.9)
    axes = fig.subplots()
    counts = np.asarray(record.bill_queries, dtype=float)
    for row in record.honest:
        axes.plot(
            counts,
            np.asarray(record.bills[row.name]) / counts,
            color=MUTED,
            linewidth=1.1,
            label="honest profiles" if row is record.honest[0] else "_",
        )
    for place, attacker in enumerate(_told(record)):
        axes.plot(
            counts,
            np.asarray(record.bills[attacker.name]) / counts,
            color=COLOURS[place % len(COLOURS)],
            linestyle="-" if place < len(COLOURS) else (0, (4, 2)),
            linewidth=1.6,
            label=label(attacker.name),
        )
    for attacker in record.disguised:
        axes.plot(
            counts,
            np.asarray(record.bills[attacker.name]) / counts,
            color=INK,
            linestyle=(0, (1.2, 1.2)),
            linewidth=1.2,
            label=f"{label(attacker.name)} (not told apart)",
        )
    log_axis(axes, float(counts.min()), float(counts.max()), margin=1.1)
    axes.set_yscale("log")
    _plain_numbers(axes)
    axes.set_xlabel("queries of one account (logarithmic)")
    axes.set_ylabel("units a query, deposit included")
    tidy(axes, grid="both")
    fig.legend(loc="outside right upper", frameon=False, fontsize=9, labelcolor=INK)
    return draw(
        fig,
        "bills",
        "How the bill of one account grows",
        "The deposit makes first queries dear for everybody; afterwards honest users come down to one unit, "
        "and thieves go up when the alarm comes.",
    )


def _prices(record: CalibrationRecord) -> Picture:
    by_name = {h.name: h for h in record.prices}
    pools = [*_told(record), *record.disguised][:_MOST_POOLS]
    columns = min(_PANEL_COLUMNS, max(1, len(pools)))
    lines = -(-len(pools) // columns)
    fig = figure(_WIDTH, 0.8 + 1.45 * lines)
    panels = fig.subplots(lines, columns, squeeze=False, sharex=True)
    typical = by_name["typical"]
    drawn = [typical, *(by_name[row.name] for row in pools)]
    low, high = min(h.edges[0] for h in drawn), max(h.edges[-1] for h in drawn)
    for place, (axes, row) in enumerate(zip(panels.flat, pools, strict=False)):
        _stairs(axes, typical, MUTED, 0.45)
        _stairs(axes, by_name[row.name], COLOURS[1], 0.6)
        log_axis(axes, low, high, margin=1.1)
        # Numbers below the lowest panel of every column, also where the last line is not full.
        axes.tick_params(axis="x", labelbottom=place + columns >= len(pools))
        axes.set_yticks([])
        axes.set_title(label(row.name, 22), loc="left")
        tidy(axes, grid="x")
        axes.spines["left"].set_visible(False)
        axes._left_title.set(size=9, color=INK)  # noqa: SLF001 - left titles have no public handle
        axes.tick_params(axis="x", labelsize=8)
    for axes in list(panels.flat)[len(pools) :]:
        axes.set_visible(False)
    fig.supxlabel("price of a query in units, before any multiplier (logarithmic)", size=9.5, color=INK)
    return draw(
        fig,
        "prices",
        "Prices of single queries",
        "Grey: typical honest traffic. Colour: the pool. Where both look alike, no price of single queries "
        "can help.",
    )


def _paths(record: CalibrationRecord) -> Picture:
    told = [row.name for row in _told(record)]
    # The thieves that are found first, in the middle and last: more lines would hide each other.
    chosen = list(dict.fromkeys([*told[:1], *told[len(told) // 2 : len(told) // 2 + 1], *told[-1:]]))
    fig = figure(_WIDTH, 3.4)
    panels = fig.subplots(1, 2, sharey=True)
    for axes, names, title in (
        (panels[0], [n for n in _SHOWN_PROFILES if n in record.paths], "honest"),
        (panels[1], [n for n in chosen if n in record.paths], "suspects"),
    ):
        for index, name in enumerate(names):
            for number, path in enumerate(record.paths[name]):
                axes.plot(
                    np.arange(1, len(path) + 1),
                    path,
                    color=COLOURS[index],
                    linewidth=1.0,
                    alpha=0.8,
                    label=label(name) if number == 0 else "_",
                )
        axes.axhline(record.threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "alarm",
            (1, record.threshold),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            size=9,
            color=INK,
        )
        axes.set_title(title, loc="left")
        axes.set_xlabel("queries of an account")
        tidy(axes, grid="y")
        axes._left_title.set(size=10, color=INK)  # noqa: SLF001 - left titles have no public handle
        if names:
            axes.legend(
                loc="lower right",
                bbox_to_anchor=(1.0, 0.99),
                ncols=3,
                frameon=False,
                fontsize=9,
                labelcolor=INK,
                handlelength=1.4,
            )
    panels[0].set_ylabel("cumulative sum of an account")
    panels[0].set_ylim(0, 1.03 * max(record.threshold * 1.25, record.ceiling))
    return draw(
        fig,
        "paths",
        "When the alarm comes",
        "Six accounts of each kind. The sum falls on honest traffic and is held at 0; above the dashed line "
        "prices are multiplied, up to the policy's limit.",
    )


def _told(record: CalibrationRecord) -> Sequence[AttackerRow]:
    return sorted((r for r in record.attackers if r.told_apart), key=lambda row: row.after_100, reverse=True)


def _stairs(axes: Any, histogram: Histogram, colour: str, alpha: float) -> None:
    shares = [s if math.isfinite(s) else 0.0 for s in histogram.shares]
    axes.stairs(shares, histogram.edges, fill=True, color=colour, alpha=alpha, linewidth=0)


def _plain_numbers(axes: Any) -> None:
    from matplotlib.ticker import StrMethodFormatter

    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _quiet_rows(axes: Any) -> None:
    tidy(axes)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
