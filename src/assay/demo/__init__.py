"""The demo: real digits, six thefts, a dozen innocent models, five kinds of evidence.

Names load on first use, so that importing the package costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.demo.play import DemoResult as DemoResult
    from assay.demo.play import Plan as Plan
    from assay.demo.play import run as run

_HOMES = {"DemoResult": "play", "Plan": "play", "run": "play"}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
