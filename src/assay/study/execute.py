"""Run one step: inputs in, files and facts out, whatever happens told in an `Outcome`."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from assay.errors import AssayError
from assay.registry import get
from assay.study.context import Context, Loaded
from assay.study.plugins import load_plugins
from assay.study.step import Step, step_version
from assay.study.store import CorruptArtifact, Manifest, Store

__all__ = ["Outcome", "Task", "execute", "versions"]

Status = Literal["done", "failed", "corrupt", "lost", "full"]
_LONGEST_LOG = 200_000
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Task:
    """A step, and where to run it.

    Parameters
    ----------
    step
        What to do.
    store
        URL of the artifact store.
    work
        Folder for checkpoints and unfinished files; None for a temporary one.
    device
        Where torch computes.
    plugins
        Modules to import first, so that what they register is known.
    """

    step: Step
    store: str
    work: str | None = None
    device: str = "cpu"
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Parameters
    ----------
    key
        Of the step.
    status
        ``"done"``; ``"failed"``, with error and log; ``"corrupt"``: the input ``culprit``
        is damaged and has to be made again; ``"lost"``: its process died; ``"full"``: the
        disk is.
    seconds
        Wall-clock time.
    error, log
        One sentence; everything that was printed, and the traceback.
    culprit
        Key of a damaged input.
    """

    key: str
    status: Status
    seconds: float = 0.0
    error: str = ""
    log: str = ""
    culprit: str = ""


_stores: dict[str, Store] = {}
_loaded = Loaded()


def execute(task: Task) -> Outcome:
    """Run one step and commit its artifact; never raises."""
    step, started = task.step, time.perf_counter()
    output = io.StringIO()

    def ended(status: Status, error: str = "", culprit: str = "") -> Outcome:
        seconds = time.perf_counter() - started
        return Outcome(step.key, status, seconds, error, output.getvalue()[-_LONGEST_LOG:], culprit)

    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), _warnings_to(output):
            _run(task)
    except CorruptArtifact as error:
        return ended("corrupt", str(error), error.key)
    except OSError as error:
        output.write(traceback.format_exc())
        if error.errno in _FULL:
            return ended("full", f"{task.store}: {error.strerror}")
        return ended("failed", f"{type(error).__name__}: {error}")
    except AssayError as error:
        output.write(traceback.format_exc())
        return ended("failed", str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in's mistake must not end the study
        output.write(traceback.format_exc())
        if os.strerror(errno.ENOSPC) in str(error):  # writers in other languages hide the number
            return ended("full", f"{task.store}: {error}")
        return ended("failed", f"{type(error).__name__}: {error}")
    return ended("done")


def _run(task: Task) -> None:
    load_plugins(task.plugins)
    step, started = task.step, time.perf_counter()
    place = _work_folder(task)
    if task.store not in _stores:
        # Copies of remote inputs are shared by the workers of a machine, and end with the folder.
        _stores[task.store] = Store(task.store, place / "inputs" if task.work else None)
    store = _stores[task.store]
    work, out = place / step.key, place / f"{step.key[:16]}-{uuid.uuid4().hex[:8]}.out"
    for folder in (work, out):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        function = get(step.kind, "step").target
        facts = function(Context(step, store, out, work, task.device, _loaded))
        manifest = Manifest(
            key=step.key,
            kind=step.kind,
            version=step_version(step.kind),
            config=dict(step.config),
            inputs=step.to_dict()["inputs"],
            seed=step.seed,
            label=step.label,
            attempt="",
            files={},
            facts=facts or {},
            seconds=round(time.perf_counter() - started, 4),
            memory=_peak_memory(),
            versions=versions(),
        )
        store.commit(manifest, out)
        shutil.rmtree(work, ignore_errors=True)
    finally:
        shutil.rmtree(out, ignore_errors=True)
        if task.work is None:
            shutil.rmtree(place, ignore_errors=True)


def _work_folder(task: Task) -> Path:
    if task.work is not None:
        return Path(task.work)
    return Path(tempfile.mkdtemp(prefix="assay-step-"))


@contextlib.contextmanager
def _warnings_to(output: io.StringIO) -> Iterator[None]:
    """Write warnings into the step's log; they would reach nobody otherwise."""
    with warnings.catch_warnings():

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: Any = None,  # noqa: ARG001 - the standard library's signature
            line: str | None = None,
        ) -> None:
            output.write(warnings.formatwarning(message, category, filename, lineno, line))

        warnings.showwarning = show
        yield


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def _versions() -> dict[str, str]:
    names = {"assay": "assay-ml", "torch": "torch", "numpy": "numpy", "scipy": "scipy"}
    return {k: metadata.version(v) for k, v in names.items()} | {"python": platform.python_version()}


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, without importing anything large."""
    return dict(_versions())
