"""A step that does nothing but write one number."""

from __future__ import annotations

from typing import Any

from assay.study.context import Context
from assay.study.step import step_kind


@step_kind("benchmark-trivial")
def trivial(context: Context) -> dict[str, Any]:
    """Write a number."""
    (context.out / "number.txt").write_text(str(context.config["number"]), encoding="utf-8")
    return {"number": context.config["number"]}
