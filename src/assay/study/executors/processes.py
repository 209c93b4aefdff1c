"""Local processes with one thread each, as many as the machine has cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from assay.errors import InvalidInput
from assay.study.execute import Outcome, Task, execute
from assay.study.executors.base import Executor

__all__ = ["ProcessExecutor", "cores", "one_thread"]

# One thread a process: two processes with a thread each beat one with two, and the same
# thread count gives the same numbers wherever a step runs.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_HEARTBEAT = 0.5


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ProcessExecutor(Executor):
    """A process for each slot; the death of one loses the step that it was running, nothing else.

    Parameters
    ----------
    workers
        Processes; one a core by default.

    Raises
    ------
    InvalidInput
        If there is no worker.

    Examples
    --------
    >>> with ProcessExecutor(1) as executor:  # a process starts with its first task
    ...     executor.slots
    1
    """

    name = "local processes"

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            msg = f"at least one worker is needed, got {workers}"
            raise InvalidInput(msg)
        self.slots = workers or cores()
        # A pool of one each: a dead process breaks its whole pool, and so only itself.
        self._pools: list[ProcessPoolExecutor | None] = [None] * self.slots
        self._idle: deque[int] = deque(range(self.slots))
        self._waiting: deque[Task] = deque()
        self._running: dict[Future[Outcome], tuple[int, Task]] = {}

    def submit(self, task: Task) -> None:
        """Hand a task to an idle process, or queue it."""
        self._waiting.append(task)
        self._start()

    def wait(self) -> Outcome:
        """Return the next outcome; a task whose process died comes back as lost."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        future = done.pop()
        slot, task = self._running.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            pool, self._pools[slot] = self._pools[slot], None
            if pool is not None:
                pool.shutdown(wait=False)
            error = "its process died (was it killed, or out of memory?)"
            outcome = Outcome(task.step.key, "lost", error=error)
        self._idle.append(slot)
        self._start()
        return outcome

    def close(self) -> None:
        """End the processes."""
        for pool in filter(None, self._pools):
            for process in list((pool._processes or {}).values()):  # noqa: SLF001 - else its step runs on
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools = [None] * self.slots

    def _start(self) -> None:
        while self._idle and self._waiting:
            slot, task = self._idle.popleft(), self._waiting.popleft()
            pool = self._pools[slot]
            if pool is None:
                # Spawned, not forked: torch's threads do not survive a fork.
                context = multiprocessing.get_context("spawn")
                pool = ProcessPoolExecutor(1, context, initializer=_prepare, initargs=(os.getpid(),))
                self._pools[slot] = pool
            try:
                future = pool.submit(execute, task)
            except BrokenProcessPool as error:  # it died while it had nothing to do
                future = Future()
                future.set_exception(error)
            self._running[future] = (slot, task)


def one_thread() -> None:
    """Have every numerical library of this process use one thread, loaded or not."""
    for name in _THREADS:
        os.environ[name] = "1"
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _prepare(parent: int) -> None:
    """Make a worker: one thread for every library, and no life after the parent's."""
    one_thread()
    # Ctrl-C reaches every process of a terminal; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # A killed parent cannot end its workers; an orphan would go on with a step that the next run repeats.
    while os.getppid() == parent:
        time.sleep(_HEARTBEAT)
    os._exit(1)
