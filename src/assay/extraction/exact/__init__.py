"""Exact extraction: attacks that recover a model's parameters through its answers.

Names load on first use; `assay.extraction.exact.base` holds the contract.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.extraction.exact.base import ExactAttack as ExactAttack
    from assay.extraction.exact.base import ExactExtraction as ExactExtraction
    from assay.extraction.exact.domain import Domain as Domain
    from assay.extraction.exact.oracle import Oracle as Oracle
    from assay.extraction.exact.recovered import Recovered as Recovered
    from assay.extraction.exact.worth import ExactWorth as ExactWorth

_HOMES = {
    "Domain": "domain",
    "ExactAttack": "base",
    "ExactExtraction": "base",
    "ExactWorth": "worth",
    "Oracle": "oracle",
    "Recovered": "recovered",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
