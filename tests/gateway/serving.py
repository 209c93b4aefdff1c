"""A gateway inside the test process, and what its clients need: small prices, a solver, a counted model."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from assay.gateway.policy import Limits, Policy, Pricing, Puzzle
from assay.gateway.server.app import build_app
from assay.gateway.server.replies import OutputTensor, encode_reply
from assay.gateway.server.setup import open_gateway
from assay.gateway.upstream.base import Answer, ModelInfo, TensorInfo, Upstream, UpstreamDown
from assay.puzzles import sha256_puzzle
from assay.puzzles.proof import encode_proof
from assay.puzzles.tokens import read_claims

HERE = Path(__file__).parent
INFER = "/v2/models/m/infer"
SIZE, CLASSES = 8, 4


def make_policy(*, limits=None, puzzle=None, version=1, answers=(), detectors=(), budgets=None, **pricing):
    """Return a policy whose puzzles take a few hundred hashes."""
    small = {
        "hashes_per_unit": 32.0,
        "deposit_units": 16.0,
        "debt_cap_units": 16.0,
        "free_units": 8.0,
        "reserve_units": 2.0,
    }
    more = {} if budgets is None else {"budgets": budgets}
    return Policy(
        version=version,
        pricing=Pricing(**(small | pricing)),
        puzzle=Puzzle(**({"k": 4, "min_bits": 6.0, "max_bits": 16.0} | (puzzle or {}))),
        limits=Limits(**({"max_items": 8, "max_bytes": 65536} | (limits or {}))),
        answers=answers,
        detectors=detectors,
        **more,
    )


class Counted(Upstream):
    """A model that counts what it computes: softmax of an affine map."""

    def __init__(self, name="m", *, down=False):
        rng = np.random.default_rng(0)
        self.weight = rng.normal(size=(SIZE, CLASSES))
        self.count, self.down, self.closed, self.gate = 0, down, False, None
        self.info = ModelInfo(
            name,
            (TensorInfo("x", "FP32", (-1, SIZE)),),
            (TensorInfo("scores", "FP32", (-1, CLASSES)),),
            ("1", "2"),
        )

    async def close(self):
        self.closed = True

    async def ready(self, model=None, version=None):
        return not self.down and model in (None, self.info.name)

    async def metadata(self, model, version=None):
        from assay.gateway.server.problems import NotFound

        if model != self.info.name or version not in (None, "1", "2"):
            msg = f"there is no model {model!r}"
            raise NotFound(msg)
        return self.info

    async def infer(self, model, version, query):
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            msg = "the test's model is down"
            raise UpstreamDown(msg)
        self.count += 1
        logits = query.inputs[0].array.astype(np.float64) @ self.weight
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        members = {"model_name": model, "model_version": "1", **({"id": query.id} if query.id else {})}
        found = OutputTensor("scores", "FP32", scores.astype(np.float32))
        return Answer(*encode_reply(members, [found], query.binary_outputs))


class Running:
    """A gateway on an event loop of its own; requests go through ASGI, not through sockets."""

    def __init__(self, gateway, routers=()):
        self.gateway, self.upstream, self.store = gateway, gateway.upstream, gateway.store
        self.app = build_app(gateway, routers)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(gateway.start())
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://gateway")

    def run(self, coroutine, timeout=30):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def request(self, method, path, **more):
        return self.run(self.http.request(method, path, **more))

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, **more):
        return self.request("POST", path, **more)

    def infer(self, x, *, key=None, proof=None, path=INFER, **more):
        headers = more.pop("headers", {})
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if proof is not None:
            headers["PoW-Proof"] = proof
        return self.post(path, json=as_json(x), headers=headers, **more)

    def open_account(self, x=None):
        """Pay the deposit and return the account's key."""
        x = rows(1) if x is None else x
        asked = self.infer(x)
        assert asked.status_code == 428, asked.text
        key = asked.json()["account_key"]
        while asked.status_code == 428:
            asked = self.infer(x, key=key, proof=solve(asked.json()["challenge"]))
        assert asked.status_code == 200, asked.text
        return key

    def settled(self, seconds=10.0):
        """Wait until nothing waits to be billed."""
        import time

        end = time.monotonic() + seconds
        while self.gateway.settler.waiting:
            self.gateway.settler.catch_up()
            assert time.monotonic() < end, "queries are not settled"
            time.sleep(0.002)

    def close(self):
        self.run(self.http.aclose())
        self.run(self.gateway.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@contextmanager
def serving(folder, policy=None, upstream=None, *, store=None, routers=(), **more):
    """Run a gateway in front of ``upstream``, with everything it keeps in ``folder``."""
    gateway = open_gateway(
        policy or make_policy(),
        upstream=upstream or Counted(),
        store=store or f"sqlite:///{folder}/gateway.db",
        keys=Path(folder) / "gateway.keys",
        **more,
    )
    running = Running(gateway, routers)
    try:
        yield running
    finally:
        running.close()


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, SIZE)).astype(np.float32)


def as_json(x, **members):
    data = [float(value) for value in x.ravel()]
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": data}], **members}


def as_binary(x, **members):
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(x.shape),
        "parameters": {"binary_data_size": x.nbytes},
    }
    head = json.dumps({"inputs": [tensor], **members}).encode()
    return head + x.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


async def ask(app, body, length=None, proof=None, path=INFER, key=None):
    """Ask without an HTTP client, which would refuse to send much of this."""
    headers = [(b"content-length", str(len(body)).encode())]
    if length is not None:
        headers.append((b"inference-header-content-length", length))
    if proof is not None:
        headers.append((b"pow-proof", proof))
    if path.startswith("/pow"):
        headers.append((b"content-type", b"application/json"))
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), content


def solve(token):
    """Return the proof of a challenge."""
    claims, seed = read_claims(token), sha256_puzzle.seed(token)
    nonces = [sha256_puzzle.solve_one(seed, i, claims.target64) for i in range(claims.k)]
    return encode_proof(token, nonces)


@contextmanager
def onnx_server(folder, *, name="m", shape=(SIZE,), classes=CLASSES):
    """Run an ONNX classifier behind HTTP in a process of its own; yield its URL."""
    import oip_process

    path = Path(folder) / "classifier.onnx"
    oip_process.write_classifier(path, shape, classes)
    command = [sys.executable, str(HERE / "oip_process.py"), str(path), name, "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
