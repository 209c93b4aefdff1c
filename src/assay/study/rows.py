"""From finished steps to rows: where in the grid, what was found, and by which step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from assay.study.grid import Cell, Plan
from assay.study.steps.panel import ROWS
from assay.study.store import CorruptArtifact, Manifest, Store

__all__ = ["collect_rows", "provenance_rows"]

_FACTS = {
    "models": (
        "architecture",
        "accuracy",
        "train_accuracy",
        "rows",
        "unmarked_accuracy",
        "match_rate",
        "unmarked_match_rate",
        "unmarked_p_value",
    ),
    "extractions": (
        "attack",
        "queries",
        "round_trips",
        "fidelity",
        "fidelity_low",
        "fidelity_high",
        "accuracy",
        "victim_accuracy",
        "curve",
    ),
    "removals": ("accuracy_before", "accuracy", "fidelity"),
    "verdicts": (
        "decision",
        "stolen",
        "alpha",
        "p_value",
        "p_whole",
        "match_rate",
        "queries",
        "effect_name",
        "effect",
        "effect_low",
        "effect_high",
        "test",
        "reason",
        "companions",
    ),
}


def collect_rows(plan: Plan, store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every table; steps that are not finished give none."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in (*_FACTS, "panel")}
    known: dict[str, Manifest | None] = {}
    for cell in plan.cells:
        manifest = _manifest(store, cell.key, known)
        if manifest is None:
            continue
        found = {"step": cell.key, "step_seed": manifest.seed, "seconds": manifest.seconds}
        if cell.table == "panel":
            tables["panel"] += [{**cell.row, **row, **found} for row in _panel(store, cell, manifest)]
            continue
        facts = {name: manifest.facts.get(name) for name in _FACTS[cell.table]}
        if "suspect" in cell.about:
            suspect = _manifest(store, cell.about["suspect"], known)
            facts["accuracy"] = None if suspect is None else suspect.facts.get("accuracy")
        tables[cell.table].append({**cell.row, **facts, **found})
    return tables


def provenance_rows(plan: Plan, store: Store) -> Iterator[dict[str, Any]]:
    """Yield one row a finished step: where a number comes from."""
    known: dict[str, Manifest | None] = {}
    for step in plan.steps:
        manifest = _manifest(store, step.key, known)
        if manifest is not None:
            yield {
                "key": step.key,
                "kind": step.kind,
                "label": step.label,
                "seed": step.seed,
                "version": manifest.version,
                "seconds": manifest.seconds,
                "memory": manifest.memory,
                "finished": manifest.finished,
                "versions": manifest.versions,
                "inputs": list(step.parents),
                "config": dict(step.config),
            }


def _manifest(store: Store, key: str, known: dict[str, Manifest | None]) -> Manifest | None:
    if key not in known:
        try:
            known[key] = store.find(key)
        except CorruptArtifact:
            known[key] = None  # the next run makes it anew
    return known[key]


def _panel(store: Store, cell: Cell, manifest: Manifest) -> list[dict[str, Any]]:
    try:
        folder, _ = store.open(cell.key)
    except CorruptArtifact:
        return []
    rows: list[dict[str, Any]] = json.loads((folder / ROWS).read_text(encoding="utf-8"))
    return [{**row, "alpha": manifest.facts["alpha"]} for row in rows]
