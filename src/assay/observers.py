"""Observers: how long work tells progress bars, journals and plots what it does.

The library itself neither prints nor draws; whoever wants to know hands in an observer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Observer", "Observers", "Recorder"]


class Observer:
    """Receives events; every method does nothing unless overridden."""

    def on_start(self, task: str, total: int | None = None) -> None:
        """Report that a task begins, with its number of steps where that is known."""

    def on_step(self, task: str, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Report that ``done`` steps of the task are finished."""

    def on_query(self, model: str, rows: int, total: int) -> None:
        """Report that a model answered ``rows`` more rows, ``total`` so far."""

    def on_end(self, task: str, summary: Mapping[str, Any] | None = None) -> None:
        """Report that the task ended."""


class Observers(Observer):
    """Several observers as one.

    Examples
    --------
    >>> log = Recorder()
    >>> Observers([log]).on_start("train", 3)
    >>> log.events
    [('start', 'train', 3)]
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def on_start(self, task: str, total: int | None = None) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.on_start(task, total)

    def on_step(self, task: str, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.on_step(task, done, metrics)

    def on_query(self, model: str, rows: int, total: int) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.on_query(model, rows, total)

    def on_end(self, task: str, summary: Mapping[str, Any] | None = None) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.on_end(task, summary)


class Recorder(Observer):
    """Keeps every event in ``events``, for tests and for callers who look afterwards."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_start(self, task: str, total: int | None = None) -> None:
        """Record a start."""
        self.events.append(("start", task, total))

    def on_step(self, task: str, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Record a step."""
        self.events.append(("step", task, done, dict(metrics or {})))

    def on_query(self, model: str, rows: int, total: int) -> None:
        """Record a query."""
        self.events.append(("query", model, rows, total))

    def on_end(self, task: str, summary: Mapping[str, Any] | None = None) -> None:
        """Record an end."""
        self.events.append(("end", task, dict(summary or {})))
