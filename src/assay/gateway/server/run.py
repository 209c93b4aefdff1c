"""Running a gateway under uvicorn, with limits on connections and a shutdown that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import uvicorn

from assay.errors import InvalidInput
from assay.gateway.server.app import build_app
from assay.gateway.server.guard import guarded_protocol
from assay.gateway.server.reload import Reloader

if TYPE_CHECKING:
    from fastapi import APIRouter

    from assay.gateway.policy import Policy
    from assay.gateway.rpc.service import RpcServer
    from assay.gateway.server.gateway import Gateway

__all__ = ["bind", "run_gateway"]

_HEAD_SECONDS = 10.0
_IDLE_SECONDS = 15
_CONNECTIONS = 1000
_BACKLOG = 512
# How long a thread that computes may keep the event loop from running: the default of 5 ms
# would be added to the slowest answers.
_SWITCH_SECONDS = 5e-4


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 chooses a free one.

    Raises
    ------
    InvalidInput
        If the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        # Naming the protocol lets asyncio switch off Nagle's algorithm, which costs 40 ms an answer.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        msg = f"cannot listen on {host}:{port}: {error.strerror}"
        raise InvalidInput(msg) from error
    return listener


def run_gateway(
    gateway: Gateway,
    *,
    sockets: Sequence[socket.socket],
    routers: Sequence[APIRouter] = (),
    head_seconds: float = _HEAD_SECONDS,
    connections: int = _CONNECTIONS,
    on_start: Callable[[], None] = lambda: None,
    read_policy: Callable[[], Policy] | None = None,
    grpc: tuple[str, int] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun; SIGHUP reads the policy again.

    Parameters
    ----------
    gateway
        Closed afterwards.
    sockets
        Where to listen.
    routers
        Further pages.
    head_seconds
        Within which the head of a request must be complete.
    connections
        Open at once.
    on_start
        Called once requests are answered.
    read_policy
        Reads the policy's file again.
    grpc
        Address and port for callers that speak gRPC.

    Raises
    ------
    InvalidInput
        If the policy does not fit the model behind; nothing was served then.
    """
    limits = gateway.policy.limits
    protocol = guarded_protocol(
        head_seconds=head_seconds, max_head=limits.max_header_bytes, max_connections=connections
    )
    app = build_app(gateway, routers)
    rpc = None
    if grpc is not None:
        from assay.gateway.rpc.service import RpcServer

        rpc = RpcServer(app, *grpc)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        # What headers say about the caller's address is for nobody to decide but the policy.
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=int(limits.upstream_seconds) + 1,
        h11_max_incomplete_event_size=limits.max_header_bytes,
    )
    sys.setswitchinterval(_SWITCH_SECONDS)
    _Server(config, gateway, on_start, Reloader(gateway, read_policy), rpc).run(sockets=list(sockets))


class _Server(uvicorn.Server):
    """A server that says when it is there, and takes over a new policy when it is told to."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        on_start: Callable[[], None],
        reloader: Reloader,
        rpc: RpcServer | None = None,
    ) -> None:
        super().__init__(config)
        self._rpc = rpc
        self._gateway, self._on_start, self._reloader = gateway, on_start, reloader

    async def startup(self, sockets: Any = None) -> None:
        """Start, then tell."""
        try:
            # Before uvicorn does it, which would hide the reason in a traceback.
            await self._gateway.start()
            if self._rpc is not None:
                await self._rpc.start()
        except BaseException:
            await self._gateway.close()
            raise
        # Its default is to end the process.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reloader.trigger)
        await super().startup(sockets)
        if self.started:
            # What is there now stays; looking through all of it again and again would only
            # make some answers late.
            gc.collect()
            gc.freeze()
            self._on_start()

    async def shutdown(self, sockets: Any = None) -> None:
        """Let calls of both kinds finish, then end."""
        if self._rpc is not None:
            await self._rpc.stop(self._gateway.policy.limits.upstream_seconds)
        await super().shutdown(sockets)
