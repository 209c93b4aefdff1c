"""Studies: experiments that can be resumed, from one file.

Names load on first use, so that importing the package costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.study.engine import Run as Run
    from assay.study.engine import StoreFull as StoreFull
    from assay.study.file import Study as Study
    from assay.study.file import load_study as load_study
    from assay.study.grid import Plan as Plan
    from assay.study.grid import plan_study as plan_study
    from assay.study.run import Finished as Finished
    from assay.study.run import RunFolder as RunFolder
    from assay.study.run import run_study as run_study
    from assay.study.step import Step as Step
    from assay.study.step import step_kind as step_kind
    from assay.study.store import Store as Store
    from assay.study.tables import StudyTables as StudyTables

_HOMES = {
    "Finished": "run",
    "Plan": "grid",
    "Run": "engine",
    "RunFolder": "run",
    "Step": "step",
    "Store": "store",
    "StoreFull": "engine",
    "Study": "file",
    "StudyTables": "tables",
    "load_study": "file",
    "plan_study": "grid",
    "run_study": "run",
    "step_kind": "step",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
