"""An Open Inference Protocol server on 127.0.0.1, honest or otherwise, for tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


class OipServer:
    """Serve ``predict`` as model ``m``; ``script`` replaces single answers, first in first out.

    A script entry is ``(status, headers, body)``, or a function that gets the handler.
    ``"pass"`` lets one request through.
    """

    def __init__(self, predict, shape, outputs=None, datatype="FP32", batch=-1):
        self.predict, self.script, self.seen = predict, [], []
        self.metadata = {
            "name": "m",
            "platform": "test",
            "inputs": [{"name": "x", "datatype": datatype, "shape": [batch, *shape]}],
            "outputs": outputs or [],
        }
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def reply(self, status, body, headers=None):
                self.send_response(status)
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle_any(self):
                size = int(self.headers.get("Content-Length", 0))
                content = json.loads(self.rfile.read(size)) if size else None
                server.seen.append((self.command, self.path, dict(self.headers), content))
                step = server.script.pop(0) if server.script else "pass"
                if isinstance(step, Callable):
                    step(self)
                elif step != "pass":
                    status, headers, body = step
                    self.reply(status, body, headers)
                elif self.command == "GET":
                    self.reply(200, json.dumps(server.metadata).encode())
                else:
                    self.reply(200, json.dumps({"outputs": server.answer(content)}).encode())

            do_GET = handle_any  # noqa: N815 - http.server looks for these names
            do_POST = handle_any  # noqa: N815 - http.server looks for these names

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v2/models/m"

    def answer(self, content):
        given = content["inputs"][0]
        kind = np.float64 if given["datatype"] == "FP64" else np.float32
        return self.predict(np.array(given["data"], dtype=kind).reshape(given["shape"]))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def tensor(array, datatype="FP32", name="y", *, nested=False):
    array = np.asarray(array)
    data = array.tolist() if nested else array.ravel().tolist()
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def drip(handler):
    """Send a byte now and then, each within a read time-out, without end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.03)
    except OSError:
        pass
    handler.close_connection = True


def hang(handler):
    time.sleep(0.5)
    handler.close_connection = True


def drop(handler):
    """Close the connection without an answer."""
    handler.close_connection = True
