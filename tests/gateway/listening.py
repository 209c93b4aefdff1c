"""The real gateway on a socket, for clients that cannot be handed an application."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

from serving import Counted, make_policy

from assay.gateway.page import page_router
from assay.gateway.server.app import build_app
from assay.gateway.server.setup import open_gateway


@contextmanager
def listening(folder, policy=None, upstream=None):
    """Yield URL and model of a gateway that listens in this process."""
    import uvicorn

    upstream = upstream or Counted()
    gateway = open_gateway(
        policy or make_policy(),
        upstream=upstream,
        store=f"sqlite:///{folder}/gateway.db",
        keys=folder / "gateway.keys",
    )
    app = build_app(gateway, [page_router()])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the gateway did not start"
            assert time.monotonic() < end, "the gateway did not start in time"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", upstream
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
