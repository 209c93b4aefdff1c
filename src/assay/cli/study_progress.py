"""How far a study is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from assay.observers import Observer

if TYPE_CHECKING:
    from assay.study.execute import Outcome
    from assay.study.step import Step

__all__ = ["StudyProgress", "duration", "time_left"]

_EVERY = 60.0  # seconds between lines where there is no terminal
_MINUTE, _HOUR = 60, 3600
_LONGEST = 60


def duration(seconds: float) -> str:
    """Return a time in words, as exactly as it is of use.

    Examples
    --------
    >>> duration(4.2), duration(95), duration(7500)
    ('4 s', '2 min', '2 h 5 min')
    """
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def time_left(core_seconds: float, pace: float, slots: float) -> float:
    """Return the expected wall-clock seconds: estimates, corrected by experience, shared by the slots.

    Examples
    --------
    >>> time_left(600, pace=1.5, slots=2)
    450.0
    """
    return core_seconds * pace / max(1.0, slots)


class StudyProgress(Observer):
    """Shows steps done, running, failed and left, and the time that is left, on standard error.

    Parameters
    ----------
    clock
        Monotonic seconds.

    Examples
    --------
    >>> with StudyProgress() as progress:
    ...     progress.on_start("study", 2)
    ...     progress.on_step("study", 1, {"running": 1, "core_seconds_left": 8, "pace": 1, "slots": 1})
    >>> progress.line
    '1 of 2 steps done, 1 running, about 8 s left'
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        console = Console(file=sys.stderr, markup=False, highlight=False)
        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Line(self),
            TextColumn("{task.fields[now]}", markup=False, style="dim"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._lines = not console.is_terminal
        self._clock, self._told, self._since = clock, clock(), clock()
        self._task: TaskID | None = None
        self._done = self._total = 0
        self._numbers: Mapping[str, float] = {}
        self._running: dict[str, str] = {}

    @property
    def line(self) -> str:
        """What there is to say, in one line."""
        numbers = self._numbers
        parts = [f"{self._done:,} of {self._total:,} steps done", f"{numbers.get('running', 0):.0f} running"]
        counts = {name: int(numbers.get(name, 0)) for name in ("failed", "skipped")}
        parts += [f"{count:,} {name}" for name, count in counts.items() if count]
        if numbers.get("core_seconds_left"):
            left = time_left(numbers["core_seconds_left"], numbers.get("pace", 1.0), numbers.get("slots", 1))
            # Between two steps the time goes on.
            parts.append(f"about {duration(max(1.0, left - (self._clock() - self._since)))} left")
        return ", ".join(parts)

    def report(self, event: str, step: Step, outcome: Outcome | None) -> None:
        """Take note of which steps are under way, and show the failures at once."""
        if event == "start":
            self._running[step.key] = step.label or step.kind
        else:
            self._running.pop(step.key, None)
        if event == "failed" and outcome is not None and not self._lines:
            text = "".join(c if c.isprintable() else " " for c in f"failed: {step.label}: {outcome.error}")
            self._bar.console.print(text, soft_wrap=True)

    def on_start(self, task: str, total: int | None = None) -> None:
        """Show the bar."""
        del task
        self._total = total or 0
        self._task = self._bar.add_task("study", total=total, now="")

    def on_step(self, task: str, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Move the bar, or write a line if the last one is a while ago."""
        del task
        self._done, self._numbers, self._since = done, metrics or {}, self._clock()
        if self._task is not None:
            # More are handed over than can run; those that wait came last.
            running = list(self._running.values())[: int(self._numbers.get("running", 0))]
            now = ", ".join("".join(c if c.isprintable() else " " for c in name) for name in running)
            self._bar.update(self._task, completed=done, now=now[:_LONGEST])
        if self._lines and self._clock() - self._told >= _EVERY:
            self._told = self._clock()
            sys.stderr.write(self.line + "\n")

    def on_end(self, task: str, summary: Mapping[str, Any] | None = None) -> None:
        """Remove the bar."""
        del task, summary
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class _Line(TextColumn):
    """The line beside the bar, computed when it is drawn."""

    def __init__(self, progress: StudyProgress) -> None:
        super().__init__("")
        self._progress = progress

    def render(self, task: Any) -> Text:
        """Return the part of the line that the bar does not show."""
        del task
        return Text(self._progress.line.partition(", ")[2])
