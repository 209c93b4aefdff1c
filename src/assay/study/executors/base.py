"""The contract of executors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from assay.study.execute import Outcome, Task

__all__ = ["Executor"]


class Executor(ABC):
    """Takes tasks whose inputs exist, and returns outcomes in the order in which they end.

    Attributes
    ----------
    name
        What people read.
    slots
        Tasks that it wants at a time. More would only wait in its queue.
    """

    name: str
    slots: int = 1

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Start a task, or queue it."""

    @abstractmethod
    def wait(self) -> Outcome:
        """Return the next outcome; blocks. There must be a task under way."""

    def close(self) -> None:  # noqa: B027 - some have nothing to give back
        """Give everything back; tasks under way are abandoned."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
