"""A lean HTTP/1.1 client on the event loop: one request, one bounded answer, kept-alive connections.

The gateway stands in the way of every request, so its own cost counts twice. This does
only what talking to one inference server needs, and nothing else: no redirects, no
cookies, no proxies, no compression.

References
----------
Fielding, Nottingham, Reschke, "HTTP/1.1", RFC 9112, 2022.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import urlsplit

from assay.errors import InvalidInput
from assay.gateway.upstream.base import UpstreamDown
from assay.gateway.upstream.http1_reader import AnswerReader, Response

__all__ = ["Begun", "Http1Pool", "Response"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Stale(Exception):
    """A kept connection was closed before the answer began; the request may be sent again."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that may be under way: await ``answer()``, and call ``finish()`` whatever becomes of it."""

    answer: Callable[[], Coroutine[None, None, Response]]
    finish: Callable[[], None]


class Http1Pool:
    """Connections to one server.

    Parameters
    ----------
    url
        ``http://`` or ``https://``, host, port, and perhaps a path to begin with.
    timeout
        Seconds for one request, connecting included.
    max_bytes
        Largest body of an answer.
    max_idle
        Connections kept open between requests.
    tls
        How to connect over ``https://``; the defaults otherwise.

    Raises
    ------
    InvalidInput
        If the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        max_bytes: int = 64 * 2**20,
        max_idle: int = 64,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            msg = f"{url!r} is no address of a server; give one such as http://localhost:8000"
            raise InvalidInput(msg) from error
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.query or parts.username:
            msg = f"{url!r} is no address of a server; give one such as http://localhost:8000"
            raise InvalidInput(msg)
        self._host, self._port = parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self.prefix = parts.path.rstrip("/")
        self.shown = f"{parts.scheme}://{parts.netloc}{self.prefix}"
        self._authority = parts.netloc
        self._timeout, self._max_bytes, self._max_idle = timeout, max_bytes, max_idle
        self._idle: deque[_Connection] = deque()

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """Send one request and return the whole answer.

        Raises
        ------
        UpstreamDown
            If there is none in time, or none of the allowed size.
        """
        return await self._answered(self._message(method, path, headers, body))

    def begin(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Begun:
        """Send one request, over a kept connection before this returns if there is one.

        A coroutine would send it only in its first turn, after whatever else is due by then.
        """
        message = self._message(method, path, headers, body)
        if not self._idle:
            return Begun(partial(self._answered, message), lambda: None)
        connection, reader = self._idle.pop(), AnswerReader(self._max_bytes, self.shown)
        answer = connection.ask(message, reader, kept=True)
        return Begun(
            partial(self._answered, message, answer), partial(self._put_back, connection, reader, answer)
        )

    def _message(self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes) -> bytes:
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body

    async def _answered(self, message: bytes, answer: asyncio.Future[Response] | None = None) -> Response:
        """Return the answer to what was sent already, or send it."""
        try:
            async with asyncio.timeout(self._timeout):
                if answer is not None:
                    with contextlib.suppress(_Stale):
                        return await answer
                while self._idle:
                    with contextlib.suppress(_Stale):
                        return await self._exchange(self._idle.pop(), message, kept=True)
                return await self._exchange(await self._connect(), message, kept=False)
        except TimeoutError as error:
            msg = f"{self.shown} did not answer within {self._timeout:g} s"
            raise UpstreamDown(msg) from error
        except (OSError, EOFError, ValueError, _Stale) as error:
            msg = f"{self.shown} does not answer in HTTP ({type(error).__name__})"
            raise UpstreamDown(msg) from error

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop().close()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return connection

    async def _exchange(self, connection: _Connection, message: bytes, *, kept: bool) -> Response:
        reader = AnswerReader(self._max_bytes, self.shown)
        answer = connection.ask(message, reader, kept=kept)
        try:
            return await answer
        finally:
            self._put_back(connection, reader, answer)

    def _put_back(
        self, connection: _Connection, reader: AnswerReader, answer: asyncio.Future[Response]
    ) -> None:
        """Keep a connection for the next request, if its last answer is whole and it lasts."""
        answer.cancel()  # if it is not there yet, nobody waits for it any more
        whole = answer.done() and not answer.cancelled() and answer.exception() is None
        if whole and reader.lasting and len(self._idle) < self._max_idle:
            self._idle.append(connection)
        elif whole:
            connection.close()
        else:
            connection.abort()  # the server need not finish what nobody waits for


class _Connection(asyncio.Protocol):
    """One connection: a question at a time, and no bytes but its answer.

    Streams would wake whoever waits once for the head and once for the body.
    """

    _transport: asyncio.Transport
    _reader: AnswerReader
    _answer: asyncio.Future[Response] | None = None
    _kept = _closed = False

    def ask(self, message: bytes, reader: AnswerReader, *, kept: bool) -> asyncio.Future[Response]:
        """Send a question; its answer comes in the future."""
        self._answer = asyncio.get_running_loop().create_future()
        self._reader, self._kept = reader, kept
        if self._closed or self._transport.is_closing():
            self._fail(EOFError("the connection is closed"))
        else:
            self._transport.write(message)
        return self._answer

    def close(self) -> None:
        """Close once everything is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self._transport.abort()  # nothing was asked
            return
        try:
            self._finish(self._reader.feed(data))
        except (ValueError, UpstreamDown) as error:
            self._fail(error)

    def eof_received(self) -> None:
        if self._answer is not None and not self._answer.done() and self._reader.begun:
            try:
                self._finish(self._reader.end())
            except (ValueError, EOFError) as error:
                self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._fail(exc or EOFError("the connection was closed"))

    def _finish(self, response: Response | None) -> None:
        if response is not None and self._answer is not None:
            self._answer.set_result(response)

    def _fail(self, error: Exception) -> None:
        if self._answer is None or self._answer.done():
            return
        lost = isinstance(error, OSError | EOFError)
        self._answer.set_exception(_Stale() if lost and self._kept and not self._reader.begun else error)
