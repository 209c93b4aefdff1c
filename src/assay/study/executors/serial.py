"""Everything in this process, one step after another: for debugging."""

from __future__ import annotations

from collections import deque

from assay.study.execute import Outcome, Task, execute
from assay.study.executors.base import Executor

__all__ = ["SerialExecutor"]


class SerialExecutor(Executor):
    """Run each task when its outcome is asked for.

    Examples
    --------
    >>> with SerialExecutor() as executor:
    ...     executor.slots
    1
    """

    name = "this process"
    slots = 1

    def __init__(self) -> None:
        self._queue: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._queue.append(task)

    def wait(self) -> Outcome:
        """Run the oldest task."""
        return execute(self._queue.popleft())
