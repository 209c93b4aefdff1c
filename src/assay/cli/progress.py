"""Progress bars on a terminal, fed by the library's observers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from assay.observers import Observer

__all__ = ["ProgressBars"]


class ProgressBars(Observer):
    """One bar for each running task and a count of queries, on standard error.

    Nothing is shown where standard error is no terminal.

    Examples
    --------
    >>> with ProgressBars() as bars:
    ...     bars.on_start("train", 2)
    ...     bars.on_step("train", 1, {"loss": 0.5})
    ...     bars.on_end("train")
    """

    def __init__(self) -> None:
        console = Console(file=sys.stderr, markup=False, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def on_start(self, task: str, total: int | None = None) -> None:
        """Show a bar."""
        self._remove(task)
        self._tasks[task] = self._progress.add_task(task, total=total, note="")

    def on_step(self, task: str, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Move the bar and show the newest numbers."""
        if task in self._tasks:
            note = "  ".join(f"{name} {value:.3g}" for name, value in (metrics or {}).items())
            self._progress.update(self._tasks[task], completed=done, note=note)

    def on_query(self, model: str, rows: int, total: int) -> None:  # noqa: ARG002 - the contract
        """Show how many queries a model has answered."""
        name = f"queries of {model}"
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, note="")
        self._progress.update(self._tasks[name], completed=total)

    def on_end(self, task: str, summary: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Remove the bar."""
        self._remove(task)

    def _remove(self, task: str) -> None:
        if task in self._tasks:
            self._progress.remove_task(self._tasks.pop(task))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
