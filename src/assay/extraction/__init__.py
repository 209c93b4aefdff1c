"""Extraction: attacks that make a copy of a model.

Names load on first use, so that importing the package costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.extraction.base import Attack as Attack
    from assay.extraction.base import Extraction as Extraction
    from assay.extraction.base import ExtractionRecord as ExtractionRecord
    from assay.extraction.copycat import CopyCat as CopyCat
    from assay.extraction.data_theft import DataTheft as DataTheft
    from assay.extraction.distillation import Distillation as Distillation
    from assay.extraction.fine_tuning import FineTuning as FineTuning
    from assay.extraction.jacobian import Jacobian as Jacobian
    from assay.extraction.knockoff import Knockoff as Knockoff
    from assay.extraction.label_query import LabelQuery as LabelQuery
    from assay.extraction.logit_query import LogitQuery as LogitQuery
    from assay.extraction.source import SourceCopy as SourceCopy
    from assay.extraction.strategy import QueryStrategy as QueryStrategy
    from assay.extraction.strategy import Ranked as Ranked

_HOMES = {
    "Attack": "base",
    "CopyCat": "copycat",
    "DataTheft": "data_theft",
    "Distillation": "distillation",
    "Extraction": "base",
    "ExtractionRecord": "base",
    "FineTuning": "fine_tuning",
    "Jacobian": "jacobian",
    "Knockoff": "knockoff",
    "LabelQuery": "label_query",
    "LogitQuery": "logit_query",
    "QueryStrategy": "strategy",
    "Ranked": "strategy",
    "SourceCopy": "source",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
