"""From verdict rows to Markdown tables and the figure of power against queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from safetensors import safe_open

from assay.statistics import clopper_pearson, uniformity

__all__ = ["write_report"]

ROLES = {
    "source": "source copy",
    "fine": "fine-tuning",
    "theft": "data theft",
    "distil": "distillation",
    "logit": "logit-query",
    "label": "label-query",
}
# Okabe and Ito's palette, distinguishable with any colour vision.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00")
GOALS = {"source": 100, "fine": 100, "theft": 100, "distil": 100, "logit": 1000, "label": 1000}

Rows = list[dict[str, Any]]


def write_report(rows: Rows, runs: Path, docs: Path) -> None:
    """Write ``power-tables.md`` and ``power.svg``."""
    docs.mkdir(parents=True, exist_ok=True)
    grouped: dict[str, Rows] = defaultdict(list)
    for row in rows:
        grouped[row["setting"]].append(row)
    text = []
    for setting, found in grouped.items():
        text += [
            f"### {setting}",
            "",
            *_accuracy(runs / setting),
            "",
            *_power(found),
            "",
            *_errors(found),
            "",
        ]
    (docs / "power-tables.md").write_text("\n".join(text), encoding="utf-8")
    _figure(grouped).savefig(docs / "power.svg", metadata={"Date": None})
    print(f"{docs / 'power-tables.md'} and power.svg written")


def _accuracy(folder: Path) -> list[str]:
    found: dict[str, list[float]] = defaultdict(list)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), "pt") as model:
            meta = model.metadata() or {}
        if "accuracy" in meta:
            found[file.stem.split("-")[0]].append(float(meta["accuracy"]))
    words = {"pool": "victims and references", "extra": "further references", "indep": "independent"}
    parts = [
        f"{words.get(role, ROLES.get(role, role))} {100 * float(np.mean(a)):.1f} % ({len(a)})"
        for role, a in found.items()
    ]
    return ["Test accuracy, mean (models): " + ", ".join(parts) + "."]


def _queries(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    return np.array([row["queries"] if row["stolen"] else np.inf for row in rows])


def _power(rows: Rows) -> list[str]:
    lines = [
        "| theft | access | victims | stolen | within goal | median queries | 90 % | 95 % |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for role, title in ROLES.items():
        for access in ("labels", "scores"):
            found = [r for r in rows if r["kind"] == "power" and r["role"] == role and r["access"] == access]
            if not found:
                continue
            q = _queries(found)
            within = f"{int((q <= GOALS[role]).sum())} (of {GOALS[role]})"
            marks = [_number(np.quantile(q, level, method="higher")) for level in (0.5, 0.9, 0.95)]
            stolen = f"{int(np.isfinite(q).sum())}/{len(q)}"
            lines.append(f"| {title} | {access} | {len(q)} | {stolen} | {within} | {' | '.join(marks)} |")
    return lines


def _number(value: float) -> str:
    return f"{int(value):,}" if np.isfinite(value) else "not reached"


def _errors(rows: Rows) -> list[str]:
    lines = [
        "| null | access | verdicts | stolen at 0.01 | 95 % Clopper-Pearson | p <= 0.05 | KS p (one-sided) |",
        "|---|---|--:|--:|---|--:|--:|",
    ]
    names = {"error": "independent models x fresh splits", "aa": "one split redrawn (A/A)"}
    for kind, title in names.items():
        for access in ("labels", "scores"):
            found = [r for r in rows if r["kind"] == kind and r["access"] == access]
            if not found:
                continue
            stolen = sum(r["stolen"] for r in found)
            bound = clopper_pearson(stolen, len(found))
            small = sum(r["p"] <= 0.05 for r in found) / len(found)
            ks = uniformity([r["p"] for r in found]).p_value
            lines.append(
                f"| {title} | {access} | {len(found)} | {stolen} ({100 * stolen / len(found):.2f} %) | "
                f"{100 * bound.low:.2f} to {100 * bound.high:.2f} % | {100 * small:.1f} % | {ks:.2g} |"
            )
    return lines


def _figure(grouped: dict[str, Rows]) -> Figure:
    figure = Figure(figsize=(9, 3.1 * max(len(grouped), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(len(grouped), 1), 2, squeeze=False, sharex=True, sharey=True)
    for line, (setting, rows) in zip(axes, grouped.items(), strict=False):
        for axis, access in zip(line, ("labels", "scores"), strict=True):
            for (role, title), colour in zip(ROLES.items(), COLOURS, strict=True):
                found = [
                    r for r in rows if r["kind"] == "power" and r["role"] == role and r["access"] == access
                ]
                if found:
                    q = np.sort(_queries(found))
                    steps = np.arange(1, len(q) + 1) / len(q)
                    axis.step(
                        [8, *q, 10_000],
                        [0, *steps, steps[np.isfinite(q)].max(initial=0)],
                        where="post",
                        color=colour,
                        label=title,
                        linewidth=1.6,
                    )
            axis.set_xscale("log")
            axis.set_xlim(8, 10_000)
            axis.set_ylim(0, 1.03)
            axis.axhline(0.95, color="#999999", linewidth=0.8, linestyle=":")
            axis.set_title(f"{setting}, {access}", fontsize=10)
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel("share of victims proven stolen")
    for axis in axes[-1]:
        axis.set_xlabel("queries to the suspect (alpha = 0.01)")
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    return figure
