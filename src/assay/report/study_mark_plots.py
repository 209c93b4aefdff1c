"""Pictures of evidence that is trained in: who carries it, and what became of it after each removal."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.report.canvas import COLOURS, INK, MARKERS, MUTED, Picture, draw, figure, label, tidy
from assay.report.multiples import cut, legend
from assay.report.study_findings import Findings
from assay.study.columns import Rows, distinct, grouped, number_of
from assay.study.mark_summary import OUTCOMES

__all__ = ["mark_pictures", "outcome_pictures"]

_MOST_KINDS, _MOST_SUSPECTS, _MOST_REMOVALS = 24, 8, 40
_SETTING, _EXTRACTION = ("victim", "extraction", "verification", "access", "alpha"), 1
_COLOURS = {"verified": COLOURS[2], "spoilt": MUTED, "won": COLOURS[1], "absent": "none"}
_SAID = {
    "verified": "still verified",
    "spoilt": "copy lost more than 5 points",
    "won": "won by the thief",
    "absent": "was not in the copy",
}


def mark_pictures(findings: Findings) -> list[Picture]:
    """Draw how often each kind of evidence is matched by victim, control and copies; one picture a victim."""
    pictures = []
    plain = [row for row in findings.tables.rows("verdicts") if row.get("removal") in (None, "none")]
    known = [row for row in plain if number_of(row.get("match_rate")) is not None]
    for index, ((victim,), rows) in enumerate(grouped(known, ["victim"]).items()):
        kinds = list(dict.fromkeys(row["evidence"] for row in rows))
        attacks = list(dict.fromkeys(row.get("extraction") for row in rows))
        series: list[tuple[str, Rows, str]] = [("unmarked model", _controls(findings, victim), MUTED)]
        series += [
            (
                str(attack),
                [row for row in rows if row.get("extraction") == attack],
                COLOURS[place % len(COLOURS)],
            )
            for place, attack in enumerate(attacks[:_MOST_SUSPECTS])
        ]
        shown = kinds[:_MOST_KINDS]
        fig = figure(9.2, 1.1 + 0.5 * max(3, len(shown)))
        axes = fig.subplots()
        offsets = np.linspace(-0.32, 0.32, len(series))
        for place, (name, some, colour) in enumerate(series):
            points = [
                (
                    i + offsets[place],
                    [v for row in same if (v := number_of(row.get("match_rate"))) is not None],
                )
                for i, kind in enumerate(shown)
                if (same := [row for row in some if row["evidence"] == kind])
            ]
            for y, values in points:
                axes.plot([min(values), max(values)], [y, y], color=colour, linewidth=1.2)
            axes.plot(
                [float(np.median(values)) for _, values in points],
                [y for y, _ in points],
                linestyle="none",
                marker=MARKERS[place % len(MARKERS)],
                markersize=5,
                color=colour,
                label=label(name),
            )
        axes.set_yticks(range(len(shown)), [label(str(kind), 30) for kind in shown])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.5, -0.5), xlabel="share of secret answers given")
        tidy(axes)
        for row in range(1, len(shown)):
            axes.axhline(row - 0.5, color=MUTED, linewidth=0.25)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        legend(fig, len(series))
        caption = (
            "Medians over the repetitions, with lines from the least to the largest; everything that can be "
            "asked was asked. A rate says nothing alone: compare it with the unmarked model's."
        )
        caption += cut(len(shown), len(kinds), "kinds of evidence")
        caption += cut(min(len(attacks), _MOST_SUSPECTS), len(attacks), "extractions")
        of = f": {label(str(victim), 40)}" if len({row["victim"] for row in known}) > 1 else ""
        pictures.append(draw(fig, f"marks-{index}", f"Who carries the marks{of}", caption))
    return pictures


def outcome_pictures(findings: Findings) -> list[Picture]:
    """Draw who won after each removal, one picture a victim, extraction and test."""
    pictures = []
    groups = {
        key: rows
        for key, rows in grouped(findings.outcomes, _SETTING).items()
        if any(row["removal"] not in (None, "none") for row in rows)
    }
    for index, (key, rows) in enumerate(groups.items()):
        kinds = list(dict.fromkeys(row["evidence"] for row in rows))
        removals = list(dict.fromkeys(row["removal"] for row in rows))
        columns, lines = kinds[:_MOST_KINDS], removals[:_MOST_REMOVALS]
        fig = figure(9.2, 1.7 + 0.24 * len(lines))
        axes = fig.subplots()
        for row in rows:
            if row["evidence"] in columns and row["removal"] in lines:
                _bar(axes, row, columns.index(row["evidence"]), lines.index(row["removal"]))
        axes.set_yticks(range(len(lines)), [label(_removal(name), 30) for name in lines])
        axes.set_xticks(
            range(len(columns)), [label(str(kind), 24) for kind in columns], rotation=35, ha="right"
        )
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(lines) - 0.5, -0.5))
        tidy(axes)
        axes.grid(visible=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0)
        for kind in OUTCOMES:
            said = label(_SAID[kind], 40)
            axes.bar([-9], [0], color=_COLOURS[kind], edgecolor=MUTED, linewidth=0.6, label=said)
        legend(fig, len(OUTCOMES), axes)
        name = ", ".join([str(key[_EXTRACTION]), *_differing(key, groups)])
        caption = (
            "Each bar is divided by the repetitions. 'Won by the thief': the evidence is not found any more, "
            "was found before, and the removal cost at most 5 points of accuracy. Empty: the evidence was "
            "not found before the removal either."
        )
        caption += cut(len(columns), len(kinds), "kinds of evidence") + cut(
            len(lines), len(removals), "removals"
        )
        pictures.append(draw(fig, f"outcomes-{index}", f"After each removal: {label(name, 60)}", caption))
    return pictures


def _bar(axes: Any, row: Any, column: int, line: int) -> None:
    """Draw the outcomes of one setting as a bar of width 0.86."""
    left = column - 0.43
    for name in OUTCOMES:
        width = 0.86 * row[name] / row["verdicts"]
        if width:
            axes.barh(
                line,
                width,
                left=left,
                height=0.68,
                color=_COLOURS[name],
                edgecolor=MUTED if name == "absent" else INK,
                linewidth=0.3,
            )
        left += width


def _differing(key: tuple[Any, ...], groups: Any) -> list[str]:
    """Return the parts of a setting, apart from the extraction, in which the pictures differ."""
    places = [i for i in range(len(key)) if i != _EXTRACTION and len({other[i] for other in groups}) > 1]
    return [str(key[i]) for i in places]


def _controls(findings: Findings, victim: Any) -> Rows:
    """Return the match rates of unmarked models as rows like those of verdicts."""
    models = findings.tables.rows("models")
    rows = [row for row in models if row.get("role") == "victim" and row.get("victim") == victim]
    return [
        {"evidence": kind, "match_rate": row["unmarked_match_rate"]}
        for (kind,), same in grouped(rows, ["evidence"]).items()
        for row in distinct(same)
        if number_of(row.get("unmarked_match_rate")) is not None
    ]


def _removal(name: Any) -> str:
    return "as stolen" if name in (None, "none") else str(name)
