"""Reports: from JSON records or a study's tables to one HTML page, Markdown and rows.

Names load on first use, so that importing the package costs neither jinja2 nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.report.build import Report as Report
    from assay.report.build import build_report as build_report
    from assay.report.entries import Entry as Entry
    from assay.report.entries import load_entries as load_entries
    from assay.report.gallery import Gallery as Gallery
    from assay.report.gallery import load_galleries as load_galleries
    from assay.report.rows import table_rows as table_rows
    from assay.report.study_report import StudyReport as StudyReport
    from assay.report.study_report import build_study_report as build_study_report

_HOMES = {
    "Entry": "entries",
    "Gallery": "gallery",
    "Report": "build",
    "StudyReport": "study_report",
    "build_report": "build",
    "build_study_report": "study_report",
    "load_entries": "entries",
    "load_galleries": "gallery",
    "table_rows": "rows",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
