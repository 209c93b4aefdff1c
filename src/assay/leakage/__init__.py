"""Estimators of what each query makes a model give away.

An estimator answers a batch with one log q per row: the log of the probability that noise
changes the winner of a vote of teachers, or a score on that scale. 0 leaks most, -158 is a
unanimous vote. Everything else (prices, budgets, alarms) is a function of it; see
`assay.privacy`. Names load on first use, so that importing the package costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.leakage.base import Estimator as Estimator
    from assay.leakage.base import Method as Method
    from assay.leakage.base import load_estimator as load_estimator
    from assay.leakage.composite import Composite as Composite
    from assay.leakage.distilled import Distilled as Distilled
    from assay.leakage.entropy import Entropy as Entropy
    from assay.leakage.gap import Gap as Gap
    from assay.leakage.heads import LinearHeads as LinearHeads
    from assay.leakage.pknn import NearestNeighbours as NearestNeighbours
    from assay.leakage.teachers import TeacherEnsemble as TeacherEnsemble

_HOMES = {
    "Composite": "composite",
    "Distilled": "distilled",
    "Entropy": "entropy",
    "Estimator": "base",
    "Gap": "gap",
    "LinearHeads": "heads",
    "Method": "base",
    "NearestNeighbours": "pknn",
    "TeacherEnsemble": "teachers",
    "load_estimator": "base",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
