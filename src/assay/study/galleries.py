"""Images that say what a study's evidence is made of, kept beside its tables for the report."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from assay.evidence import Evidence, load_evidence
from assay.study.grid import Plan
from assay.study.steps.evidence import BUNDLE
from assay.study.store import CorruptArtifact, Store

__all__ = ["write_galleries"]

FOLDER = "galleries"
_MOST = 24
_CHANNELS = (1, 3)
_AXES = 3


def write_galleries(plan: Plan, store: Store, folder: Path) -> None:
    """Write one gallery for the first evidence of each kind about each victim, where it has images.

    Parameters
    ----------
    plan, store
        The study and its artifacts; evidence that is not finished is left out.
    folder
        Of the run; ``galleries`` in it is replaced.
    """
    target = folder / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    bundles = {step.key for step in plan.steps if step.kind in ("register", "embed")}
    seen: set[tuple[str, str]] = set()
    for cell in plan.cells:
        group = (str(cell.row.get("victim")), str(cell.row.get("evidence")))
        key = cell.about.get("evidence")
        if key not in bundles or group in seen:
            continue
        seen.add(group)
        try:
            evidence = load_evidence(store.open(key)[0] / BUNDLE)
        except CorruptArtifact:
            continue
        _write(evidence, target / f"{len(seen):03d}.safetensors", *group)


def _write(evidence: Evidence, path: Path, victim: str, kind: str) -> None:
    found = list(evidence.scheme.pictures(evidence, _MOST))
    low, high = (float(v) for v in evidence.facts["value_range"])
    shape = tuple(evidence.facts["input_shape"])
    if not found or len(shape) != _AXES or shape[0] not in _CHANNELS or not math.isfinite(high - low):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "title": f"{kind}, {victim}",
        "caption": f"The first inputs that a suspected copy of {victim} is asked about ({evidence.name}).",
        "labels": json.dumps([label for label, _ in found]),
    }
    images = {
        f"{i:05d}": ((image - low) / (high - low)).clamp(0, 1).to(torch.float32).contiguous()
        for i, (_, image) in enumerate(found)
    }
    save_file(images, path, metadata)
