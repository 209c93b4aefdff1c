"""Another inference server as the source of answers: Triton, KServe, MLServer, or one of ours."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from assay.gateway.server.forward import in_binary
from assay.gateway.server.problems import BadQuery, NotFound
from assay.gateway.server.wire import HEADER_LENGTH, Query, read_json
from assay.gateway.upstream.base import Answer, ModelInfo, Upstream, UpstreamDown, UpstreamRefused
from assay.gateway.upstream.http1 import Begun, Http1Pool, Response

__all__ = ["ProxyUpstream"]

_OK, _NOT_FOUND, _TOO_MANY, _SERVER = 200, 404, 429, 500
_CACHED_MODELS = 256
_MAX_WORDS = 300
_BINARY = "binary_tensor_data"


class ProxyUpstream(Upstream):
    """A server under the Open Inference Protocol, version 2.

    Bodies go there and back as they are, unless the server says that it takes binary tensors: long
    lists of numbers then go there as bytes. What the caller sent in headers does not go there: only
    the type and the length of the JSON part.

    Parameters
    ----------
    url
        Where it listens, such as ``http://localhost:8000``.
    timeout
        Seconds for one request.
    max_bytes
        Largest answer.
    concurrency
        Requests under way at once; more wait, up to ``waiting``.
    waiting
        Requests that may wait; more are refused at once.
    memory
        Seconds for which a model's description is remembered.
    token
        Bearer token for that server.
    tls
        How to connect over ``https://``, as `assay.adapters.tls.client_context` makes it.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        max_bytes: int = 64 * 2**20,
        concurrency: int = 64,
        waiting: int = 256,
        memory: float = 30.0,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._pool = Http1Pool(url, timeout=timeout, max_bytes=max_bytes, max_idle=concurrency, tls=tls)
        self.shown = self._pool.shown
        self._slots = asyncio.Semaphore(concurrency)
        self._limit, self._under_way = concurrency + waiting, 0
        self._memory = memory
        self._known: OrderedDict[tuple[str, str | None], tuple[float, ModelInfo]] = OrderedDict()
        self._binary = False
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    async def ready(self, model: str | None = None, version: str | None = None) -> bool:
        """Ask the server whether it (or the model) can answer."""
        path = "/v2/health/ready" if model is None else f"{_path(model, version)}/ready"
        try:
            return (await self._pool.request("GET", path, self._headers)).status == _OK
        except UpstreamDown:
            return False

    async def metadata(self, model: str, version: str | None = None) -> ModelInfo:
        """Ask the server how the model describes itself, once in a while."""
        key, now = (model, version), time.monotonic()
        known = self._known.get(key)
        if known is not None and now < known[0]:
            return known[1]
        info = await self._describe(model, version)
        self._binary = await self._takes_binary()
        # Only what exists is remembered: a flood of invented names cannot push it out.
        self._known[key] = (now + self._memory, info)
        while len(self._known) > _CACHED_MODELS:
            self._known.popitem(last=False)
        return info

    async def infer(self, model: str, version: str | None, query: Query) -> Answer:
        """Forward the body and return the answer as it came."""
        if self._under_way >= self._limit:
            msg = f"{self._under_way} requests wait for {self.shown} already"
            raise UpstreamDown(msg)
        self._under_way += 1
        try:
            async with self._slots:
                response = await self._pool.request(*self._request(model, version, query))
        finally:
            self._under_way -= 1
        return self._answer(response)

    def begin(self, model: str, version: str | None, query: Query) -> asyncio.Task[Answer]:
        """Forward the body before this returns, if nobody else waits."""
        if self._slots.locked():
            return super().begin(model, version, query)
        begun = self._pool.begin(*self._request(model, version, query))
        with suppress(StopIteration):  # of a semaphore that is not locked: it is ours at once
            self._slots.acquire().send(None)
        self._under_way += 1
        task = asyncio.ensure_future(self._rest(begun))
        # Not in the task: one that is given up before its first turn does nothing of its own.
        task.add_done_callback(lambda _: self._leave(begun))
        return task

    def _leave(self, begun: Begun) -> None:
        begun.finish()
        self._under_way -= 1
        self._slots.release()

    async def _rest(self, begun: Begun) -> Answer:
        return self._answer(await begun.answer())

    def _request(
        self, model: str, version: str | None, query: Query
    ) -> tuple[str, str, dict[str, str], bytes]:
        headers = dict(self._headers)
        if self._binary:
            query = in_binary(query)
        if query.header_length is None:
            headers["Content-Type"] = "application/json"
        else:
            headers["Content-Type"] = "application/octet-stream"
            headers[HEADER_LENGTH] = str(query.header_length)
        return "POST", f"{_path(model, version)}/infer", headers, query.body

    def _answer(self, response: Response) -> Answer:
        self._refuse(response)
        return Answer(response.body, _length(response, self.shown))

    async def _describe(self, model: str, version: str | None) -> ModelInfo:
        response = await self._pool.request("GET", _path(model, version), self._headers)
        try:
            self._refuse(response)
        except UpstreamRefused as error:
            # Triton says 400 where the protocol says 404.
            if error.status in (_NOT_FOUND, 400):
                msg = f"there is no model {model!r}" + (f" of version {version!r}" if version else "")
                raise NotFound(msg) from error
            msg = f"{self.shown} does not describe its models (status {error.status})"
            raise UpstreamDown(msg) from error
        try:
            return ModelInfo.parse(read_json(response.body), self.shown)
        except BadQuery as error:
            msg = f"{self.shown} does not describe the model in JSON"
            raise UpstreamDown(msg) from error

    async def _takes_binary(self) -> bool:
        try:
            response = await self._pool.request("GET", "/v2", self._headers)
            content = read_json(response.body) if response.status == _OK else None
        except (UpstreamDown, BadQuery):  # it has just described a model: text will do
            return False
        extensions = content.get("extensions") if isinstance(content, dict) else None
        return isinstance(extensions, list) and _BINARY in extensions

    def _refuse(self, response: Response) -> None:
        status = response.status
        if status == _OK:
            return
        # That server is busy, or wants a key that is not the caller's business.
        if status >= _SERVER or status < 400 or status in (401, 403, 407, 408, _TOO_MANY):  # noqa: PLR2004
            msg = f"{self.shown} answered with status {status}"
            raise UpstreamDown(msg)
        raise UpstreamRefused(status, _words(response.body))


def _path(model: str, version: str | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _length(response: Response, where: str) -> int | None:
    stated = response.headers.get(HEADER_LENGTH.lower())
    if stated is None:
        return None
    if not (stated.isascii() and stated.isdigit()) or int(stated) > len(response.body):
        msg = f"{where} answered with a {HEADER_LENGTH} that does not fit its body"
        raise UpstreamDown(msg)
    return int(stated)


def _words(body: bytes) -> str:
    """Return what a server says about a refusal, cut and without control characters."""
    try:
        content: Any = read_json(body)
    except BadQuery:
        content = None
    words = content.get("error") if isinstance(content, dict) else None
    if not isinstance(words, str) or not words:
        return "the server behind the gateway refused the request"
    return "".join(letter if letter.isprintable() else " " for letter in words[:_MAX_WORDS])
