"""Pictures of error rates: p-values of models that are independent of the secret, against the uniform law."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.report import words
from assay.report.canvas import INK, MUTED, Picture, draw, label, tidy
from assay.report.multiples import MOST_PANELS, TEST, cut, legend, line_style, panels, setting_name, subject
from assay.report.study_findings import Findings
from assay.study.columns import grouped
from assay.study.error_summary import error_curve
from assay.study.power_summary import p_value_of

__all__ = ["error_pictures"]

_TICKS = (0, 0.01, 0.05, 0.2, 0.5, 1)


def error_pictures(findings: Findings) -> list[Picture]:
    """Draw how often p-values of independent models are at most a, one picture a victim and evidence."""
    pictures = []
    groups = grouped(findings.tables.rows("panel"), ("victim", "evidence"))
    for index, ((victim, evidence), rows) in enumerate(groups.items()):
        keys = ("panel", *TEST)
        cells = list(grouped(rows, keys).items())
        kinds = list(dict.fromkeys(row["kind"] for row in rows))
        fig, grid = panels(min(len(cells), MOST_PANELS), height=2.5)
        for axes, (key, same) in zip(grid, cells, strict=False):
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
            for (kind,), verdicts in grouped(same, ["kind"]).items():
                curve = error_curve([p_value_of(row) for row in verdicts])
                style = line_style(kinds.index(kind))
                level = curve["level"]
                axes.fill_between(
                    level,
                    curve["low"],
                    curve["high"],
                    step="post",
                    alpha=0.18,
                    linewidth=0,
                    color=style["color"],
                )
                axes.step(level, curve["share"], where="post", linewidth=1.7, **style)
                secrets = len({(row.get("seed"), row.get("secret")) for row in verdicts})
                axes.annotate(
                    f"{words.count(len(verdicts))} verdicts, secrets: {words.count(secrets)}",
                    (1, 0.03 + 0.09 * kinds.index(kind)),
                    xycoords="axes fraction",
                    xytext=(-3, 0),
                    textcoords="offset points",
                    ha="right",
                    size=8.5,
                    color=style["color"],
                )
            alpha = key[-1]
            axes.axvline(alpha, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            for scale in (axes.set_xscale, axes.set_yscale):
                scale("function", functions=(_root, _square))
            axes.set(xlim=(0, 1), ylim=(0, 1), xticks=_TICKS, yticks=_TICKS)
            axes.set_xticklabels([f"{t:g}" for t in _TICKS])
            axes.set_yticklabels([f"{t:g}" for t in _TICKS])
            axes.set_title(label(setting_name(dict(zip(keys, key, strict=True)), rows), 40))
            tidy(axes, grid="both")
        fig.supxlabel("level a", size=9.5, color=INK)
        fig.supylabel("share with p ≤ a", size=9.5, color=INK)
        for place, kind in enumerate(kinds):
            grid[0].plot([], [], linewidth=1.7, label=label(kind), **line_style(place))
        legend(fig, len(kinds), grid[0])
        caption = (
            "Share of verdicts about independent models with p at most a. Both axes are stretched near 0. A "
            "valid test stays near or below the diagonal. The band is Clopper-Pearson's 95 % at each a, as "
            "if all verdicts were independent, and too narrow where many share a secret. Dashed: α."
        )
        caption += cut(min(len(cells), MOST_PANELS), len(cells), "panels")
        title = f"Error rates: {subject(victim, evidence, groups)}"
        pictures.append(draw(fig, f"errors-{index}", title, caption))
    return pictures


def _root(x: Any) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(np.asarray(x, dtype=np.float64), 0))


def _square(x: Any) -> NDArray[np.float64]:
    return np.square(np.asarray(x, dtype=np.float64))
