"""The kinds of steps that a study consists of; importing this registers them."""

from __future__ import annotations

from assay.study.steps import data, evidence, extract, models, panel, references, remove, verify

__all__ = ["data", "evidence", "extract", "models", "panel", "references", "remove", "verify"]
