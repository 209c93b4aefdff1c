"""Defences: what a service does to its answers before anyone sees them.

Each is a frozen dataclass whose `wear` dresses any model; `assay.defences.base` holds the
contract. Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.defences.answering import Answering as Answering
    from assay.defences.answering import Asked as Asked
    from assay.defences.base import Defence as Defence
    from assay.defences.base import Dressed as Dressed
    from assay.defences.coverage_noise import CoverageNoise as CoverageNoise
    from assay.defences.dawn import Dawn as Dawn
    from assay.defences.ensemble import Ensemble as Ensemble
    from assay.defences.hidden_features import HiddenFeatures as HiddenFeatures
    from assay.defences.incomplete import Incomplete as Incomplete
    from assay.defences.leaf_identity import LeafIdentity as LeafIdentity
    from assay.defences.leaf_identity import TreeService as TreeService
    from assay.defences.logit_bias import LogitBias as LogitBias
    from assay.defences.mad import MaximumAngle as MaximumAngle
    from assay.defences.noise import Noise as Noise
    from assay.defences.per_account import PerAccount as PerAccount
    from assay.defences.reverse_sigmoid import ReverseSigmoid as ReverseSigmoid
    from assay.defences.rounding import Rounding as Rounding
    from assay.defences.top_k import TopK as TopK
    from assay.defences.top_k import TopOne as TopOne

_HOMES = {
    "Answering": "answering",
    "Asked": "answering",
    "CoverageNoise": "coverage_noise",
    "Dawn": "dawn",
    "Defence": "base",
    "Dressed": "base",
    "Ensemble": "ensemble",
    "HiddenFeatures": "hidden_features",
    "Incomplete": "incomplete",
    "LeafIdentity": "leaf_identity",
    "LogitBias": "logit_bias",
    "MaximumAngle": "mad",
    "Noise": "noise",
    "PerAccount": "per_account",
    "ReverseSigmoid": "reverse_sigmoid",
    "Rounding": "rounding",
    "TopK": "top_k",
    "TopOne": "top_k",
    "TreeService": "leaf_identity",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
