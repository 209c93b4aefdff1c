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
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from assay.errors import InvalidInput
from assay.gateway.upstream.base import UpstreamDown

__all__ = ["Http1Pool", "Response"]

_MAX_HEAD = 64 * 2**10
_NO_BODY = frozenset({204, 304})
_FIRST_FINAL = 200
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers by lower-case name, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Stale(Exception):
    """A kept connection was closed before the answer began; the request may be sent again."""


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

    Raises
    ------
    InvalidInput
        If the URL is none.
    """

    def __init__(
        self, url: str, *, timeout: float = 30.0, max_bytes: int = 64 * 2**20, max_idle: int = 64
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
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.prefix = parts.path.rstrip("/")
        self.shown = f"{parts.scheme}://{parts.netloc}{self.prefix}"
        self._authority = parts.netloc
        self._timeout, self._max_bytes, self._max_idle = timeout, max_bytes, max_idle
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """Send one request and return the whole answer.

        Raises
        ------
        UpstreamDown
            If there is none in time, or none of the allowed size.
        """
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        message = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
        try:
            async with asyncio.timeout(self._timeout):
                while self._idle:
                    with contextlib.suppress(_Stale):
                        return await self._exchange(*self._idle.pop(), message, kept=True)
                return await self._exchange(*await self._connect(), message, kept=False)
        except TimeoutError as error:
            msg = f"{self.shown} did not answer within {self._timeout:g} s"
            raise UpstreamDown(msg) from error
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, _Stale) as error:
            msg = f"{self.shown} does not answer in HTTP ({type(error).__name__})"
            raise UpstreamDown(msg) from error

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # The limit is what one read may buffer, not the size of a body.
        return await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=2**20)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes, *, kept: bool
    ) -> Response:
        done = False
        try:
            if kept and (reader.at_eof() or writer.is_closing()):
                raise _Stale
            response, done = await self._converse(reader, writer, message, kept=kept)
        finally:
            if done and len(self._idle) < self._max_idle:
                self._idle.append((reader, writer))
            else:
                writer.close()
        return response

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes, *, kept: bool
    ) -> tuple[Response, bool]:
        """Return the answer and whether the connection can be used again."""
        try:
            writer.write(message)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if kept and not getattr(error, "partial", b""):
                raise _Stale from error
            raise
        status, headers, lasting = _head(head)
        while status < _FIRST_FINAL:
            status, headers, lasting = _head(await reader.readuntil(b"\r\n\r\n"))
        body, whole = await self._body(reader, status, headers)
        return Response(status, headers, body), lasting and whole

    async def _body(
        self, reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]
    ) -> tuple[bytes, bool]:
        if status in _NO_BODY:
            return b"", True
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                msg = f"unknown transfer coding {coding[:40]}"
                raise ValueError(msg)
            return await self._chunks(reader), True
        stated = headers.get("content-length")
        if stated is not None:
            if not (stated.isascii() and stated.isdigit() and len(stated) < 16):  # noqa: PLR2004 - 10^15 bytes
                msg = "a content length that is no number"
                raise ValueError(msg)
            self._bound(int(stated))
            return await reader.readexactly(int(stated)), True
        body = await reader.read(self._max_bytes + 1)
        while not reader.at_eof():
            self._bound(len(body))
            body += await reader.read(self._max_bytes + 1)
        self._bound(len(body))
        return body, False

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";", 1)[0].strip(), 16)
            total += size
            self._bound(total)
            if size < 0:
                msg = "a chunk of negative size"
                raise ValueError(msg)
            if size == 0:
                break
            parts.append(await reader.readexactly(size))
            if await reader.readexactly(2) != b"\r\n":
                msg = "a chunk longer than it says"
                raise ValueError(msg)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers say nothing that is needed
        return b"".join(parts)

    def _bound(self, size: int) -> None:
        if size > self._max_bytes:
            msg = f"{self.shown} answered more than {self._max_bytes} bytes"
            raise UpstreamDown(msg)


def _head(raw: bytes) -> tuple[int, dict[str, str], bool]:
    """Return status, headers, and whether the connection stays open afterwards."""
    if len(raw) > _MAX_HEAD:
        msg = "a head of more than 64 KiB"
        raise ValueError(msg)
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not code.isdigit():
        msg = "no HTTP status line"
        raise ValueError(msg)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            msg = "a header without a colon"
            raise ValueError(msg)
        headers[name.strip().lower()] = value.strip()
    connection = headers.get("connection", "").lower()
    lasting = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
    return int(code), headers, lasting
