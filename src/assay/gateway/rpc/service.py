"""The gRPC server: each call is handed to the application that answers REST, and its answer translated.

So accounts, proofs, prices, limits and refusals are the same, and are written once. A refusal
is a gRPC status; the problem document with its challenge travels as trailing metadata.

References
----------
Open Inference Protocol, "gRPC inference protocol", version 2. gRPC, "Status codes and their
use in gRPC".
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from assay.errors import InvalidInput
from assay.gateway.rpc.convert import STATUS, body_of, response_of
from assay.gateway.rpc.schema import METHODS, SERVICE, messages, needed
from assay.gateway.server.problems import NotFound, Problem
from assay.gateway.upstream.base import check_name

if TYPE_CHECKING:
    from assay.gateway.server.app import Front

__all__ = ["PROBLEM", "RpcServer"]

PROBLEM = "pow-problem"
"""Name of the trailing metadata that holds a refusal, as JSON."""

_LOG = logging.getLogger("assay.gateway")
_HEAD_ROOM = 64 * 1024
_MOST_ANSWER = 256 * 2**20
_IDLE_MS = 300_000
_IDENTITY = 1  # the bit of the only encoding that is read
_PASSED = ("authorization", "pow-proof")
_TOLD = ("pow-account", "pow-receipt", "retry-after")
_LENGTH = "inference-header-content-length"


class RpcServer:
    """Serves the inference protocol over gRPC, on the event loop that the gateway runs on.

    Parameters
    ----------
    app
        What answers REST.
    host, port
        Where to listen; port 0 chooses a free one.

    Raises
    ------
    MissingDependency
        If grpcio or protobuf are not installed.
    """

    def __init__(self, app: Front, host: str, port: int) -> None:
        self._app, self._gateway = app, app.gateway
        self._grpc, self._aio = needed("grpc"), needed("grpc.aio")
        self._messages = messages()
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server: Any = None
        self._running: set[asyncio.Task[Any]] = set()
        self.port = port

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        InvalidInput
            If the address cannot be used.
        """
        limits = self._gateway.policy.limits
        options = (
            ("grpc.max_receive_message_length", limits.max_bytes + _HEAD_ROOM),
            ("grpc.max_send_message_length", _MOST_ANSWER),
            ("grpc.max_metadata_size", limits.max_header_bytes),
            ("grpc.max_concurrent_streams", limits.concurrency),
            ("grpc.max_connection_idle_ms", _IDLE_MS),
            # Compressed messages are not read, as over HTTP: a small one may stand for a huge one.
            ("grpc.compression_enabled_algorithms_bitset", _IDENTITY),
            ("grpc.so_reuseport", 0),
        )
        server = self._aio.server(options=options, maximum_concurrent_rpcs=4 * limits.concurrency)
        server.add_generic_rpc_handlers((self._handlers(),))
        try:
            self.port = server.add_insecure_port(self._address)
        except RuntimeError as error:
            msg = f"cannot listen on {self._address} for gRPC"
            raise InvalidInput(msg) from error
        await server.start()
        self._server = server

    async def stop(self, seconds: float) -> None:
        """Take no more calls, and wait for those under way."""
        if self._server is not None:
            await self._server.stop(seconds)
        if self._running:
            # Of callers who have gone: what was begun is finished, and so billed.
            await asyncio.wait(self._running, timeout=seconds)

    # --- calls ----------------------------------------------------------------------------------
    def _handlers(self) -> Any:
        answers: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._ready,
            "ServerMetadata": self._describe,
            "ModelMetadata": self._describe,
            "ModelInfer": self._infer,
        }
        made = {}
        for name, (asked, answered) in METHODS.items():
            made[name] = self._grpc.unary_unary_rpc_method_handler(
                self._guarded(answers[name]),
                request_deserializer=getattr(self._messages, asked).FromString,
                response_serializer=getattr(self._messages, answered).SerializeToString,
            )
        return self._grpc.method_handlers_generic_handler(SERVICE, made)

    def _guarded(self, answer: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await answer(request, context)
            except Problem as problem:
                self._gateway.meter.rejected(problem.reason)
                await self._refuse(context, problem.status, problem.body(), dict(problem.headers))
            except InvalidInput:
                _LOG.exception("an answer could not be translated")
                await context.abort(self._grpc.StatusCode.INTERNAL, "the answer could not be translated")

        return guarded

    async def _live(self, _request: Any, _context: Any) -> Any:
        return self._messages.ServerLiveResponse(live=True)

    async def _ready(self, request: Any, context: Any) -> Any:
        of_model = hasattr(request, "name")
        path = f"{_model_path(request.name, request.version)}/ready" if of_model else "/v2/health/ready"
        status, headers, body = await self._ask("GET", path, context)
        if status not in (200, 503):
            await self._refuse(context, status, body, headers)
        kind = self._messages.ModelReadyResponse if of_model else self._messages.ServerReadyResponse
        return kind(ready=status == 200)  # noqa: PLR2004 - the status of success

    async def _describe(self, request: Any, context: Any) -> Any:
        of_model = hasattr(request, "name")
        path = _model_path(request.name, request.version) if of_model else "/v2"
        status, headers, body = await self._ask("GET", path, context)
        if status != 200:  # noqa: PLR2004 - the status of success
            await self._refuse(context, status, body, headers)
        kind = self._messages.ModelMetadataResponse if of_model else self._messages.ServerMetadataResponse
        known = {field.name for field in kind.DESCRIPTOR.fields}
        content = {name: value for name, value in json.loads(body).items() if name in known}
        for tensors in ("inputs", "outputs"):
            for tensor in content.get(tensors, ()):
                for extra in tensor.keys() - {"name", "datatype", "shape"}:
                    del tensor[extra]
        return kind(**content)

    async def _infer(self, request: Any, context: Any) -> Any:
        path = f"{_model_path(request.model_name, request.model_version)}/infer"
        body, length = body_of(request)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (_LENGTH.encode(), str(length).encode()),
        ]
        status, told, answer = await self._ask("POST", path, context, headers, body)
        if status != 200:  # noqa: PLR2004 - the status of success
            await self._refuse(context, status, answer, told)
        context.set_trailing_metadata(_trailing(told))
        stated = told.get(_LENGTH)
        return response_of(answer, None if stated is None else int(stated))

    async def _refuse(self, context: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
        code = self._grpc.StatusCode[STATUS.get(status, "INTERNAL")]
        document = json.loads(body)
        told = _trailing({name.lower(): value for name, value in headers.items()})
        document.pop("error", None)
        text = json.dumps(document, separators=(",", ":"))
        await context.abort(code, document.get("detail", ""), (*told, (PROBLEM, text)))

    # --- the application ------------------------------------------------------------------------
    async def _ask(
        self,
        method: str,
        path: str,
        context: Any,
        headers: list[tuple[bytes, bytes]] | None = None,
        body: bytes = b"",
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the application's answer."""
        passed = {*_PASSED, self._gateway.policy.binding.header.lower()}
        given = [(name.encode(), value.encode()) for name, value in _texts(context) if name in passed]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "2",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [*given, *(headers or ()), (b"content-length", str(len(body)).encode())],
            "client": _peer(context.peer()),
            "server": None,
        }
        sent: list[Any] = []
        asked = False

        async def receive() -> Any:
            nonlocal asked
            if asked:
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        # A call that its caller has given up goes on to its end, so that it is billed like any other.
        task = asyncio.create_task(self._app(scope, receive, send))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:])


def _model_path(name: str, version: str) -> str:
    if not name:
        msg = "the call names no model"
        raise NotFound(msg)
    check_name(name)
    return f"/v2/models/{name}" + (f"/versions/{check_name(version, 'version')}" if version else "")


def _texts(context: Any) -> list[tuple[str, str]]:
    """Return the call's metadata but for binary values."""
    return [(name, value) for name, value in context.invocation_metadata() or () if isinstance(value, str)]


def _trailing(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, headers[name]) for name in _TOLD if name in headers)


def _peer(peer: str) -> tuple[str, int] | None:
    """Return the address of a connection as gRPC writes it: ``ipv4:1.2.3.4:5`` or ``ipv6:[::1]:5``."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.strip("[]"), int(port)
