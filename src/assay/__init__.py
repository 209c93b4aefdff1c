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
    from assay.gateway.client import Client as Client
    from assay.ledger import Ledger as Ledger
    from assay.model import Access as Access
    from assay.removal import ChannelPruning as ChannelPruning
    from assay.removal import FinePruning as FinePruning
    from assay.removal import MagnitudePruning as MagnitudePruning
    from assay.removal import NeuralCleanse as NeuralCleanse
    from assay.removal import ReInitialisedHead as ReInitialisedHead
    from assay.removal import WeightNoise as WeightNoise
    from assay.removal import WeightQuantisation as WeightQuantisation
    from assay.result import Verdict as Verdict
    from assay.study import load_study as load_study
    from assay.study import run_study as run_study

_HOMES = {
    "Access": "assay.model",
    "ChannelPruning": "assay.removal",
    "Client": "assay.gateway.client",
    "DataTheft": "assay.extraction",
    "Dataset": "assay.data",
    "DatasetInference": "assay.evidence.dataset_inference",
    "Distillation": "assay.extraction",
    "FinePruning": "assay.removal",
    "FineTuning": "assay.extraction",
    "LabelQuery": "assay.extraction",
    "Ledger": "assay.ledger",
    "LogitQuery": "assay.extraction",
    "MagnitudePruning": "assay.removal",
    "NeuralCleanse": "assay.removal",
    "ReInitialisedHead": "assay.removal",
    "TriggerSet": "assay.evidence.watermarks",
    "Verdict": "assay.result",
    "WeightNoise": "assay.removal",
    "WeightQuantisation": "assay.removal",
    "commit_split": "assay.data",
    "load_data": "assay.data",
    "load_evidence": "assay.evidence",
    "load_study": "assay.study",
    "open_model": "assay.adapters",
    "run_study": "assay.study",
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
