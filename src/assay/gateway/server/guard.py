"""Connections that send their heads too slowly, or too much of them, are closed.

Uvicorn limits the time between requests, not the time that a head takes: whoever sends
one header byte a minute holds a connection for ever ("slow loris"). The protocol class
made here adds a deadline, a size, and a number of connections.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

__all__ = ["guarded_protocol"]


class _Guard:
    """What is added to uvicorn's protocol class."""

    head_seconds: ClassVar[float]
    max_head: ClassVar[int]
    max_connections: ClassVar[int]
    # Attributes and methods of the class that this is mixed into.
    transport: Any
    connections: Any
    cycle: Any
    loop: Any

    _timer: asyncio.TimerHandle | None = None
    _pending = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]  # of uvicorn's class
        if len(self.connections) > self.max_connections:
            transport.abort()
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)  # type: ignore[misc]  # of uvicorn's class

    def data_received(self, data: bytes) -> None:
        super().data_received(data)  # type: ignore[misc]  # of uvicorn's class
        if not self._between_requests():
            self._disarm()
            return
        self._pending += len(data)
        if self._pending > self.max_head:
            self.transport.abort()
        elif self._timer is None:
            self._arm()

    def timeout_keep_alive_handler(self) -> None:
        # What has not been read by now never will be; closing would wait for it.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()  # type: ignore[misc]  # of uvicorn's class

    def _between_requests(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self.head_seconds, self._late)

    def _disarm(self) -> None:
        self._pending = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._between_requests() and not self.transport.is_closing():
            self.transport.abort()


def guarded_protocol(*, head_seconds: float, max_head: int, max_connections: int) -> type[asyncio.Protocol]:
    """Return a protocol class for uvicorn's setting ``http``.

    Parameters
    ----------
    head_seconds
        Within which a head must be complete, from its first byte (of a new connection:
        from its opening).
    max_head
        Bytes of a head.
    max_connections
        Open at once; further ones are dropped without an answer.
    """
    base: Any
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as base  # noqa: N813 - one of two
    except ImportError:  # httptools is optional
        from uvicorn.protocols.http.h11_impl import H11Protocol as base  # noqa: N813 - one of two
    limits = {"head_seconds": head_seconds, "max_head": max_head, "max_connections": max_connections}
    return type("GuardedProtocol", (_Guard, base), limits)
