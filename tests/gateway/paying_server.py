"""A small gateway for tests of clients: real challenges, real checks, books in a dictionary."""

from __future__ import annotations

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from assay.gateway.page import FILES, HEADERS, read_page
from assay.puzzles.check import Terms, verify
from assay.puzzles.claims import Claims
from assay.puzzles.difficulty import target64
from assay.puzzles.query import QueryTensor, query_digest
from assay.puzzles.rejection import Rejection
from assay.puzzles.tokens import mint

KEY = b"k" * 32


class PayingServer:
    """Asks ``deposit`` units of a new account, and one unit for every request."""

    def __init__(self, *, bits=10.0, k=4, deposit=2.0, lifetime=60, changes=None):
        self.bits, self.k, self.deposit, self.lifetime = bits, k, deposit, lifetime
        self.changes = changes or (lambda claims: claims)
        self.books: dict[str, float] = {}
        self.claimed: set[str] = set()
        self.seen: list[tuple[str, str, int]] = []
        self.script: list = []
        self.files: dict[str, bytes] = {}
        self.now = time.time
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body, headers=()):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                server.seen.append((self.command, self.path, status))
                self.send_response(status)
                kind = "application/problem+json" if status >= 400 else "application/json"
                for name, value in {"Content-Type": kind, **dict(headers)}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def handle_any(self):
                size = int(self.headers.get("Content-Length", 0))
                content = json.loads(self.rfile.read(size)) if size else None
                if server.script:
                    step = server.script.pop(0)
                    if step is not None:
                        self.reply(*step)
                        return
                self.reply(*server.answer(self.path, content, self.headers))

            do_GET = handle_any  # noqa: N815 - http.server looks for these names
            do_POST = handle_any  # noqa: N815 - http.server looks for these names

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    # --- answers ------------------------------------------------------------------------------

    def answer(self, path, content, headers):
        key = headers.get("Authorization", "").removeprefix("Bearer ") or None
        name = path.removeprefix("/pow/")
        if path.startswith("/pow/") and name in FILES:
            return (
                200,
                self.files.get(name, read_page(name)),
                {**HEADERS, "Content-Type": FILES[name].media_type},
            )
        if path == "/pow/v1/policy":
            return 200, {"deposit_units": self.deposit, "hashes_per_unit": 2.0**self.bits, "k": self.k}
        if path == "/pow/v1/account":
            if key not in self.books:
                return self.problem(404, "the account does not exist yet; its first payment opens it")
            return 200, {"account": key, "deposit_due_units": 0.0, "credit_units": self.books[key]}
        if path == "/pow/v1/challenge":
            return 200, self.challenge(key, content["purpose"], min(content.get("units", 0.0), 8.0))
        if path == "/pow/v1/redeem":
            return self.redeem(content["proof"], key, ("credit", "deposit"), None)
        if path.endswith("/infer"):
            return self.infer(content, key, headers.get("PoW-Proof"))
        if path.startswith("/v2/models/m"):
            axes = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
            outs = [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
            parameters = {"classes": 3, "outputs": "probabilities"}
            return 200, {"name": "m", "inputs": axes, "outputs": outs, "parameters": parameters}
        return self.problem(404, "there is no such page")

    def infer(self, content, key, proof):
        given = content["inputs"][0]
        rows = np.array(given["data"], dtype=np.float32).reshape(given["shape"])
        digest = query_digest([QueryTensor("x", given["datatype"], tuple(given["shape"]), rows.tobytes())])
        if proof is not None:
            status, body, *_ = self.redeem(proof, key, ("query", "deposit"), digest)
            if status != 200:
                return status, body
            key = body["account"]
        if self.books.get(key, -1.0) < 1.0:
            purpose = "query" if key in self.books else "deposit"
            document = self.challenge(key, purpose, 1.0, digest)
            headers = {"PoW-Account": document["account_key"]} if "account_key" in document else {}
            return 428, {"detail": "work is due", **document}, headers
        self.books[key] -= 1.0
        scores = np.exp(rows @ np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]], dtype=np.float32))
        scores /= scores.sum(1, keepdims=True)
        output = {
            "name": "y",
            "datatype": "FP32",
            "shape": list(scores.shape),
            "data": scores.ravel().tolist(),
        }
        return 200, {"model_name": "m", "outputs": [output]}

    def challenge(self, key, purpose, units, digest=""):
        fresh = key is None
        key = key or secrets.token_hex(8)
        if purpose == "deposit":
            units = self.deposit + (1.0 if digest else 0.0)
        claims = Claims(
            kid="k",
            target64=target64(self.bits, self.k),
            k=self.k,
            purpose=purpose,
            sub=key,
            price_units=units,
            iat=int(self.now()),
            exp=int(self.now()) + self.lifetime,
            jti=secrets.token_hex(16),
            model="m" if digest else "",
            query_digest=digest,
            n_items=1 if digest else 0,
        )
        document = {"challenge": mint(self.changes(claims), KEY), "account": "id-of-" + key}
        return {**document, "account_key": key} if fresh else document

    def redeem(self, proof, key, purposes, digest):
        terms = Terms(
            now=self.now(),
            purposes=purposes,
            min_bits=self.bits,
            policies=(0,),
            sub=key,
            model="m" if digest else None,
            query_digest=digest,
        )
        try:
            claims = verify(proof, {"k": KEY}, terms).claims
        except Rejection as error:
            return self.problem(410 if error.reason == "expired" else 403, str(error))
        if claims.jti in self.claimed:
            return self.problem(409, "the proof was used before")
        self.claimed.add(claims.jti)
        earned = claims.price_units - (self.deposit if claims.purpose == "deposit" else 0.0)
        self.books[claims.sub] = self.books.get(claims.sub, 0.0) + earned
        return 200, {
            "account": claims.sub,
            "account_key": claims.sub,
            "units": claims.price_units,
            "credit_units": self.books[claims.sub],
            "expires": None,
        }

    @staticmethod
    def problem(status, detail):
        return status, {"title": "refused", "status": status, "detail": detail}

    def statuses(self):
        """Return the statuses so far, and forget them."""
        found = [status for _, _, status in self.seen]
        self.seen.clear()
        return found
