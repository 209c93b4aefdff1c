"""Verify every suspect of a setting through the public interface, and write one row per verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import jobs, opened
from settings import SETTINGS, half, parts

from assay.adapters import restrict
from assay.data import Dataset
from assay.evidence import Evidence
from assay.evidence.dataset_inference import DatasetInference, References
from assay.evidence.dataset_inference.references import margins, row_digests
from assay.model import Access
from assay.result import Verdict

__all__ = ["evaluate"]

ROLES = ("source", "theft", "fine", "distil", "label", "logit")
SPLITS = 40  # fresh splits that no model was trained on
TRIALS = 1000  # random re-draws of one split


@dataclass(frozen=True, eq=False)
class Remembered:
    """A model that was asked about the whole pool once, so that many verifications cost no more."""

    name: str
    digest: str
    answers: torch.Tensor = field(repr=False)
    rows: dict[int, int] = field(repr=False)
    pool: Dataset = field(repr=False)
    access: Access = Access.SCORES

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.pool.input_shape

    @property
    def num_classes(self) -> int:
        return self.pool.num_classes

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        keys = row_digests(replace(self.pool, x=x, y=torch.zeros(len(x), dtype=torch.int64)))
        return self.answers[[self.rows[int(k)] for k in keys]]

    def labels(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(x).argmax(1)


def evaluate(name: str, folder: Path, references: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield rows: power over victims and thefts, then error rates over independent models.

    Parameters
    ----------
    name
        Setting.
    folder
        Its trained models.
    references
        Use only this many reference models; all other models of the pool if None.
    """
    setting = SETTINGS[name]
    pool = parts(setting).pool
    blank = pool.relabelled(torch.zeros_like(pool.y))
    rows = {int(k): i for i, k in enumerate(row_digests(blank))}
    suspects = {}
    for job in jobs(setting):
        if (folder / f"{job.tag}.safetensors").exists():
            model = opened(folder, job.tag)
            suspects[job.tag] = Remembered(job.tag, model.digest, model.scores(pool.x), rows, pool)
    trained = [k for k in range(setting.models) if f"pool-{k}" in suspects]
    panel = [tag for tag in suspects if tag.startswith(("pool-", "extra-"))]
    halves = [int(tag.split("-")[1]) for tag in panel]
    members = np.stack([half(len(pool), k).numpy() for k in halves])
    margin = np.stack([margins(suspects[tag].answers, pool.y).numpy() for tag in panel])
    everyone = References(row_digests(pool), members, margin)

    def evidence(
        victim: int, coin: torch.Tensor, without: int | None, keep: int, batch: int = 16
    ) -> Evidence:
        use = [i for i, k in enumerate(halves) if k != without][:references]
        chosen = References(everyone.rows, everyone.members[use], everyone.margin[use])
        scheme = DatasetInference(keep=keep, resamples=99, batch=batch)
        return scheme.register(
            suspects[f"pool-{victim}"], pool.subset(coin), pool.subset(~coin), references=chosen, rng=1
        )

    for k in range(setting.victims):
        if k not in trained:
            continue
        found = evidence(k, half(len(pool), k), k, setting.kept)
        for role in ROLES:
            tag = f"pool-{k}" if role == "source" else f"{role}-{k}"
            if tag in suspects:
                yield from _rows(name, "power", role, k, suspects[tag], found)
    independent = [tag for tag in suspects if tag.startswith("indep-")]
    for split in range(SPLITS):
        # Innocent models are asked about all rows anyway: fewer, larger batches change nothing.
        found = evidence(trained[0], half(len(pool), 50_000 + split), None, 2000, batch=250)
        for tag in independent:
            yield from _rows(name, "error", tag, split, suspects[tag], found)
    if independent:
        found = evidence(trained[0], half(len(pool), 60_000), None, 500, batch=250)
        for trial, decoy in enumerate(found.decoys(TRIALS, rng=7)):
            tag = independent[trial % len(independent)]
            yield from _rows(name, "aa", tag, trial, suspects[tag], decoy)


def _rows(
    name: str, kind: str, role: str, index: int, suspect: Remembered, evidence: Evidence
) -> Iterator[dict[str, Any]]:
    for access in (Access.LABELS, Access.SCORES):
        verdict: Verdict = evidence.verify(restrict(suspect, access), alpha=0.01)
        yield {
            "setting": name,
            "kind": kind,
            "role": role,
            "index": index,
            "access": access.title,
            "references": evidence.facts["references"],
            "stolen": verdict.stolen,
            "p": verdict.p_value,
            "queries": verdict.queries,
            "effect": verdict.effect.value if verdict.effect else 0.0,
            "permutation": verdict.companions[0].p_value,
        }


def write_rows(rows: Iterator[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Write rows as JSON lines, the file appearing when it is whole, and return them."""
    partial = path.with_suffix(".partial")
    found = []
    with partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, sort_keys=True) + "\n")
            found.append(row)
    partial.replace(path)
    return found
