"""Reading request bodies: so many bytes, so many seconds, so much memory in all, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from assay.gateway.server.problems import BadQuery, TooLarge, TooSlow, Unavailable

__all__ = ["BodyReader", "Disconnected", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# A caller who sends too much reads the refusal only after it has sent all.
_PATIENCE = 1.0
_CLOSE = {"Connection": "close"}


class Disconnected(Exception):
    """The caller has gone before its request was complete."""


class BodyReader:
    """Reads bodies within limits that all requests of one process share.

    Parameters
    ----------
    max_bytes
        Largest body.
    seconds
        For one body, from the first byte asked for to the last received: a caller that
        sends a byte now and then gains nothing by it.
    max_memory
        Bytes of all bodies under way.
    """

    def __init__(self, max_bytes: int, seconds: float, max_memory: int = 256 * 2**20) -> None:
        self._max_bytes, self._seconds, self._max_memory = max_bytes, seconds, max_memory
        self.held = 0

    def limit(self, max_bytes: int, seconds: float) -> None:
        """Put other limits in force for bodies from now on."""
        self._max_bytes, self._seconds = max_bytes, seconds

    async def read(self, receive: Receive, stated: bytes | None, *, most: int | None = None) -> bytes:
        """Return a body.

        Parameters
        ----------
        receive
            Of ASGI.
        stated
            Value of ``Content-Length``, if there was one.
        most
            A lower limit than usual.

        Raises
        ------
        TooLarge, TooSlow
            If it passes the limits of one body.
        Unavailable
            If all bodies together pass theirs.
        BadQuery
            If ``Content-Length`` is no number.
        Disconnected
            If the caller has gone.
        """
        limit = self._max_bytes if most is None else most
        if stated is not None:
            if not stated.isdigit():
                msg = "Content-Length must be a number"
                raise BadQuery(msg, headers=_CLOSE)
            if int(stated[:20]) > limit:
                await self._discard(receive, int(stated[:20]))
                raise _too_large(limit)
        parts: list[bytes] = []
        total = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Disconnected
                    piece: bytes = message.get("body", b"")
                    total += len(piece)
                    self.held += len(piece)
                    parts.append(piece)
                    self._check(total, limit)
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            msg = f"the body did not arrive within {self._seconds:g} s"
            raise TooSlow(msg, headers=_CLOSE) from error
        finally:
            self.held -= total
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check(self, total: int, limit: int) -> None:
        if total > limit:
            raise _too_large(limit)
        if self.held > self._max_memory:
            msg = "too many large requests are on their way; try again soon"
            raise Unavailable(msg, reason="memory", headers=_CLOSE)

    async def _discard(self, receive: Receive, stated: int) -> None:
        """Let a caller finish that says how much it sends, within reason."""
        left = min(stated, 4 * self._max_bytes)
        try:
            async with asyncio.timeout(_PATIENCE):
                while left > 0:
                    message = await receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return


def _too_large(limit: int) -> TooLarge:
    msg = f"the body has more than {limit} bytes; send less at a time"
    return TooLarge(msg, headers=_CLOSE)
