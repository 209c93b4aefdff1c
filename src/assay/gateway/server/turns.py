"""Short pieces of work that another thread hands to the event loop.

Two threads that compute in turns pass the interpreter's lock back and forth, at every
read, write and statement; the answers under way wait each time. A transaction of a
millisecond on the loop itself costs them that millisecond once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["Turns"]

T = TypeVar("T")


class Turns:
    """Runs calls of other threads on an event loop.

    Parameters
    ----------
    loop
        That is running.
    seconds
        After which a call that has not begun is given up.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, seconds: float = 5.0) -> None:
        self._loop, self._seconds = loop, seconds

    def run(self, call: Callable[[], T]) -> T:
        """Run a call on the loop and wait for it.

        Raises
        ------
        TimeoutError
            If the loop does not come to it, or has ended; then it has not begun and never will.
        """
        future: Future[T] = Future()

        def there() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits
                    future.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(there)
        except RuntimeError as error:
            msg = "the event loop has ended"
            raise TimeoutError(msg) from error
        try:
            return future.result(self._seconds)
        except TimeoutError:
            if future.cancel():
                raise
            return future.result()  # it has begun just now, or ended with this very error
