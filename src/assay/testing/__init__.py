"""Conformance suites: what every attack, removal, defence, evidence and test must keep to, plug-ins alike.

Each check raises `AssertionError` with one plain sentence; none needs pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.testing.defence import check_defence as check_defence
    from assay.testing.evidence import check_evidence as check_evidence
    from assay.testing.exact import check_exact as check_exact
    from assay.testing.extraction import check_extraction as check_extraction
    from assay.testing.removal import check_removal as check_removal
    from assay.testing.spy import SpyModel as SpyModel
    from assay.testing.statistic import check_test as check_test

_HOMES = {
    "SpyModel": "assay.testing.spy",
    "check_defence": "assay.testing.defence",
    "check_evidence": "assay.testing.evidence",
    "check_exact": "assay.testing.exact",
    "check_extraction": "assay.testing.extraction",
    "check_removal": "assay.testing.removal",
    "check_test": "assay.testing.statistic",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'assay.testing' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
