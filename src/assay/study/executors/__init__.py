"""Where steps run: in this process, in local processes, on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.study.executors.base import Executor
from assay.study.executors.processes import ProcessExecutor
from assay.study.executors.serial import SerialExecutor

if TYPE_CHECKING:
    from assay.study.executors.ray import RayExecutor as RayExecutor

__all__ = ["Executor", "ProcessExecutor", "RayExecutor", "SerialExecutor"]


def __getattr__(name: str) -> Any:
    if name != "RayExecutor":  # not imported before it is asked for: Ray is an extra
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from assay.study.executors.ray import RayExecutor

    return RayExecutor
