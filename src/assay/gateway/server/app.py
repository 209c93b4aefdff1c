"""The application: the inference path in front, everything else behind it in FastAPI."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from assay.gateway.server import openapi
from assay.gateway.server.binding import CLIENT, client_of
from assay.gateway.server.body import Disconnected, Receive, Scope, Send
from assay.gateway.server.infer import InferEndpoint, send_problem
from assay.gateway.server.meta_api import meta_router
from assay.gateway.server.pow_api import pow_router
from assay.gateway.server.problems import (
    MEDIA_TYPE,
    NotFound,
    Problem,
    Unacceptable,
    Unavailable,
    WrongMethod,
)
from assay.gateway.store.base import StoreDown

if TYPE_CHECKING:
    from assay.gateway.server.gateway import Gateway

__all__ = ["Front", "build_app"]

_LOG = logging.getLogger("assay.gateway")
_PREFIX, _SUFFIX = "/v2/models/", "/infer"
_WORK = "/pow/v1/"
_MAX_SMALL = 64 * 2**10
_FAILED = "the gateway failed on this request; it is logged"


def build_app(gateway: Gateway, routers: Sequence[APIRouter] = ()) -> Front:
    """Return the application of a gateway.

    Parameters
    ----------
    gateway
        Its parts. The application starts them and closes them.
    routers
        Further pages: metrics, operator, the page for browsers.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.close()

    app = FastAPI(
        title="Assay gateway",
        version="1",
        description="A model server behind calibrated proof of work.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.meter = gateway.meter
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _unread)
    app.add_exception_handler(HTTPException, _missing)
    app.add_exception_handler(StoreDown, _down)
    app.add_exception_handler(Exception, _failed)
    for router in (meta_router(gateway), pow_router(gateway), *routers):
        app.include_router(router)
    return Front(gateway, app)


class Front:
    """The outermost ASGI application.

    Parameters
    ----------
    gateway
        Its parts.
    app
        Everything but the inference path.
    """

    def __init__(self, gateway: Gateway, app: FastAPI) -> None:
        self.gateway, self.app = gateway, app
        self._infer = InferEndpoint(gateway)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        asked = path.startswith(_PREFIX) and path.endswith(_SUFFIX)
        binding = self.gateway.policy.binding
        # Probes, metrics and pages are for callers without certificates, too.
        if binding.header and (asked or path.startswith(_WORK)):
            try:
                CLIENT.set(client_of(binding, scope))
            except Problem as problem:
                self.gateway.meter.rejected(problem.reason)
                await send_problem(send, problem)
                return
        if asked:
            if scope["method"] == "POST":
                await self._infer(scope, receive, send)
            else:
                msg = "ask with POST"
                await send_problem(send, WrongMethod(msg, headers={"Allow": "POST"}))
            return
        await self._other(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let FastAPI answer, with the same limits on bodies."""
        if scope["method"] not in ("GET", "HEAD"):
            stated = dict(scope["headers"]).get(b"content-length")
            try:
                body = await self.gateway.reader.read(receive, stated, most=_MAX_SMALL)
            except Disconnected:
                return
            except Problem as problem:
                self.gateway.meter.rejected(problem.reason)
                await send_problem(send, problem)
                return
            receive = _once(body, receive)
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            _LOG.exception("a request failed")
            self.gateway.meter.failed("internal")
            if not started:
                await send_problem(send, Problem(_FAILED))


def _once(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that has been read already."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _respond(problem: Problem) -> Response:
    headers = {**problem.headers, "Cache-Control": "no-store"}
    return Response(problem.body(), problem.status, headers, MEDIA_TYPE)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    request.app.state.meter.rejected(error.reason)
    return _respond(error)


async def _unread(_request: Request, error: Exception) -> Response:
    """Name the first thing that does not fit, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _respond(Unacceptable(f"{where} does not fit: {first['type']}", reason="bad-request"))


async def _missing(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == WrongMethod.status:
        return _respond(WrongMethod("the page is not asked in this way", headers=dict(error.headers or {})))
    if error.status_code == NotFound.status:
        return _respond(NotFound("there is no such page; see /openapi.json"))
    problem = Problem(str(error.detail), headers=dict(error.headers or {}))
    problem.status = error.status_code  # type: ignore[misc]  # a status that only a further page uses
    return _respond(problem)


async def _down(request: Request, _error: Exception) -> Response:
    """Answer for a page that reads the store itself."""
    request.app.state.meter.failed("store")
    return _respond(Unavailable("the gateway's books are not available; try again soon", reason="store"))


async def _failed(_request: Request, _error: Exception) -> Response:
    return _respond(Problem(_FAILED))
