"""Reading one HTTP/1.1 answer from pieces as they arrive, with bounds on all of them.

References
----------
Fielding, Nottingham, Reschke, "HTTP/1.1", RFC 9112, 2022.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from assay.gateway.upstream.base import UpstreamDown

__all__ = ["AnswerReader", "Response"]

_MAX_HEAD = 64 * 2**10
_MAX_LINE = 2**12
_MAX_DIGITS = 16
_NO_BODY = frozenset({204, 304})
_FIRST_FINAL = 200
_HEX = re.compile(rb"[0-9a-fA-F]{1,12}")
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers by lower-case name, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class AnswerReader:
    r"""Collects one answer.

    Parameters
    ----------
    max_bytes
        Largest body.
    shown
        How messages name the server.

    Examples
    --------
    >>> reader = AnswerReader(100, "the server")
    >>> reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    >>> reader.feed(b"cd").body
    b'abcd'
    """

    def __init__(self, max_bytes: int, shown: str) -> None:
        self._max_bytes, self._shown = max_bytes, shown
        self._buffer, self._chunks = bytearray(), bytearray()
        self._status, self._headers = 0, dict[str, str]()
        self._left: int | None = None
        self._chunked = self._ended = False
        self.begun = False
        self.lasting = False

    def feed(self, data: bytes) -> Response | None:
        """Take some bytes; return the answer once it is whole.

        Raises
        ------
        ValueError
            If it is none of HTTP.
        UpstreamDown
            If its body is larger than allowed.
        """
        self.begun = True
        self._buffer += data
        while self._status < _FIRST_FINAL:
            end = self._buffer.find(_END)
            if max(end, len(self._buffer) if end < 0 else 0) > _MAX_HEAD:
                msg = "a head of more than 64 KiB"
                raise ValueError(msg)
            if end < 0:
                return None
            self._begin(bytes(self._buffer[:end]))
            del self._buffer[: end + len(_END)]
        if self._chunked:
            return self._read_chunks()
        if self._left is None:
            self._bound(len(self._buffer))
            return None
        if len(self._buffer) < self._left:
            return None
        return self._whole(bytes(self._buffer[: self._left]), len(self._buffer) - self._left)

    def end(self) -> Response:
        """Return the answer when the server closes.

        Raises
        ------
        EOFError
            If something is missing.
        """
        if self._status < _FIRST_FINAL or self._chunked or self._left is not None:
            msg = "the connection was closed within an answer"
            raise EOFError(msg)
        return self._whole(bytes(self._buffer), 0)

    def _begin(self, raw: bytes) -> None:
        """Read a head, and from it how the body is framed."""
        self._status, self._headers, self.lasting = _head(raw)
        if self._status < _FIRST_FINAL:
            return
        coding, stated = self._headers.get("transfer-encoding"), self._headers.get("content-length")
        if self._status in _NO_BODY:
            self._left = 0
        elif coding is not None:
            if coding.lower() != "chunked":
                msg = f"unknown transfer coding {coding[:40]}"
                raise ValueError(msg)
            self._chunked = True
        elif stated is not None:
            if not (stated.isascii() and stated.isdigit() and len(stated) < _MAX_DIGITS):
                msg = "a content length that is no number"
                raise ValueError(msg)
            self._left = int(stated)
            self._bound(self._left)
        else:
            self.lasting = False  # the body ends with the connection

    def _read_chunks(self) -> Response | None:
        while True:
            end = self._buffer.find(b"\r\n", 0, _MAX_LINE)
            if end < 0:
                if len(self._buffer) >= _MAX_LINE:
                    msg = "a chunk without a size"
                    raise ValueError(msg)
                return None
            line, begin = bytes(self._buffer[:end]), end + 2
            if self._ended:  # trailers say nothing that is needed
                del self._buffer[:begin]
                if not line:
                    return self._whole(bytes(self._chunks), len(self._buffer))
                continue
            stated = line.split(b";", 1)[0].strip()
            if not _HEX.fullmatch(stated):
                msg = "a chunk whose size is no number"
                raise ValueError(msg)
            size = int(stated, 16)
            self._bound(len(self._chunks) + size)
            if size == 0:
                self._ended = True
                del self._buffer[:begin]
                continue
            if len(self._buffer) < begin + size + 2:
                return None
            if self._buffer[begin + size : begin + size + 2] != b"\r\n":
                msg = "a chunk longer than it says"
                raise ValueError(msg)
            self._chunks += self._buffer[begin : begin + size]
            del self._buffer[: begin + size + 2]

    def _whole(self, body: bytes, more: int) -> Response:
        if more:
            self.lasting = False  # bytes that belong to no answer
        return Response(self._status, self._headers, body)

    def _bound(self, size: int) -> None:
        if size > self._max_bytes:
            msg = f"{self._shown} answered more than {self._max_bytes} bytes"
            raise UpstreamDown(msg)


def _head(raw: bytes) -> tuple[int, dict[str, str], bool]:
    """Return status, headers, and whether the connection stays open afterwards."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit() and len(code) == 3):  # noqa: PLR2004 - as HTTP has it
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
