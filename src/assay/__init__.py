"""Assay tells whether a machine-learning model was stolen, and how hard it is to steal.

Public names load on first use, so that ``import assay`` costs no torch.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.adapters import open_model as open_model
    from assay.data import Dataset as Dataset
    from assay.data import commit_split as commit_split
    from assay.data import load_data as load_data
    from assay.evidence import load_evidence as load_evidence
    from assay.evidence.dataset_inference import DatasetInference as DatasetInference
    from assay.evidence.watermarks import TriggerSet as TriggerSet
    from assay.extraction import DataTheft as DataTheft
    from assay.extraction import Distillation as Distillation
    from assay.extraction import FineTuning as FineTuning
    from assay.extraction import LabelQuery as LabelQuery
    from assay.extraction import LogitQuery as LogitQuery
    from assay.ledger import Ledger as Ledger
    from assay.model import Access as Access
    from assay.result import Verdict as Verdict

_HOMES = {
    "Access": "assay.model",
    "DataTheft": "assay.extraction",
    "Dataset": "assay.data",
    "DatasetInference": "assay.evidence.dataset_inference",
    "Distillation": "assay.extraction",
    "FineTuning": "assay.extraction",
    "LabelQuery": "assay.extraction",
    "Ledger": "assay.ledger",
    "LogitQuery": "assay.extraction",
    "TriggerSet": "assay.evidence.watermarks",
    "Verdict": "assay.result",
    "commit_split": "assay.data",
    "load_data": "assay.data",
    "load_evidence": "assay.evidence",
    "open_model": "assay.adapters",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("assay-ml")
    if name not in _HOMES:
        msg = f"module 'assay' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
