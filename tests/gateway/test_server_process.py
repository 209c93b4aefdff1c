"""The gateway as a process: real sockets, a real server behind, real clients, real signals."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

for package in ("fastapi", "sqlalchemy", "uvicorn"):
    pytest.importorskip(package, reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from serving import CLASSES, HERE, INFER, SIZE, as_json, onnx_server, rows, solve  # noqa: E402 - after the skips

from assay.gateway.store.sql import SqlStore  # noqa: E402 - after the skips


class Process:
    """A running gateway."""

    def __init__(self, folder, upstream, *settings):
        self.store_url = f"sqlite:///{folder}/gateway.db"
        self.command = [
            sys.executable,
            str(HERE / "gateway_process.py"),
            upstream,
            self.store_url,
            f"{folder}/gateway.keys",
            *settings,
        ]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, "the gateway did not start"
        self.port = int(line)
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code

    def books(self):
        store = SqlStore(self.store_url)
        try:
            return store.queries(limit=10_000), list(store.unbalanced()), store.accounts(limit=100)[0]
        finally:
            store.close()


@contextmanager
def running(folder, upstream, *settings):
    process = Process(folder, upstream, *settings)
    try:
        yield process
    finally:
        process.stop(signal.SIGKILL)


def open_account(client):
    asked = client.post(INFER, json=as_json(rows(1)))
    assert asked.status_code == 428, asked.text
    key = asked.json()["account_key"]
    proof = solve(asked.json()["challenge"])
    answer = client.post(INFER, json=as_json(rows(1)), headers={"PoW-Proof": proof})
    assert answer.status_code == 200, answer.text
    return key


@pytest.fixture(scope="module")
def onnx_url(tmp_path_factory):
    with onnx_server(tmp_path_factory.mktemp("onnx")) as url:
        yield url


@pytest.fixture(scope="module")
def front(tmp_path_factory, onnx_url):
    """A gateway in front of the ONNX server."""
    with running(
        tmp_path_factory.mktemp("front"), onnx_url, "request_seconds=1", "head_seconds=0.6"
    ) as process:
        yield process


def count(url):
    return int(httpx.get(f"{url}/test/count").text)


# --- real clients -----------------------------------------------------------------------------
@pytest.mark.parametrize("binary", [False, True])
def test_the_triton_client_is_served_unchanged_but_for_the_proof(front, onnx_url, binary):
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    from tritonclient.utils import InferenceServerException

    from assay.puzzles.query import QueryTensor, query_digest

    with triton.InferenceServerClient(f"127.0.0.1:{front.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        assert client.get_model_metadata("m")["inputs"][0]["shape"] == [-1, SIZE]
        x = rows(3)
        given = triton.InferInput("x", list(x.shape), "FP32")
        given.set_data_from_numpy(x, binary_data=binary)
        wanted = [triton.InferRequestedOutput("scores", binary_data=binary)]
        before = count(onnx_url)
        with pytest.raises(InferenceServerException, match="hashes") as refused:
            client.infer("m", [given], outputs=wanted)
        assert refused.value.status() == "428"
        assert count(onnx_url) == before
        digest = query_digest([QueryTensor("x", "FP32", x.shape, x.tobytes())])
        ask = {"model": "m", "query_digest": digest, "n_items": 3}
        challenge = httpx.post(f"{front.url}/pow/v1/challenge", json=ask).json()
        headers = {"PoW-Proof": solve(challenge["challenge"])}
        answer = client.infer("m", [given], outputs=wanted, headers=headers, request_id="7").as_numpy(
            "scores"
        )
        assert answer.shape == (3, CLASSES)
        # Asked directly, the server behind says the same to the last bit.
        with triton.InferenceServerClient(onnx_url.removeprefix("http://")) as behind:
            assert np.array_equal(answer, behind.infer("m", [given], outputs=wanted).as_numpy("scores"))
        with pytest.raises(InferenceServerException) as again:
            client.infer("m", [given], outputs=wanted, headers=headers)
        assert again.value.status() == "409"
        # With the account's key further queries are answered as long as the debt is small.
        more = {"Authorization": f"Bearer {challenge['account_key']}"}
        one = triton.InferInput("x", [1, SIZE], "FP32")
        one.set_data_from_numpy(rows(1), binary_data=binary)
        assert client.infer("m", [one], headers=more).as_numpy("scores").shape == (1, CLASSES)


def test_our_own_client_pays_by_itself(front):
    from assay.adapters import open_model

    model = open_model(f"{front.url}/v2/models/m")
    x = rows(30)
    import torch

    scores = torch.cat([model.scores(torch.from_numpy(x[i : i + 5])) for i in range(0, 30, 5)])
    assert scores.shape == (30, CLASSES)
    assert float((scores.sum(1) - 1).abs().max()) < 1e-5


def test_metrics_and_pages_are_there(front):
    with httpx.Client(base_url=front.url) as client:
        open_account(client)
        text = client.get("/metrics").text
        assert "assay_requests_total{" in text or "assay_request_seconds_count" in text
        assert client.get("/pow/").status_code == 200
        assert client.get("/operator").status_code == 401
        assert client.get("/operator", headers={"Authorization": "Bearer operator-token-of-tests"}).is_success


# --- slow and oversized callers --------------------------------------------------------------------
def drip(port, begin, piece, pause, seconds):
    """Send a byte now and then; return how long the gateway put up with it and what it said."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(begin)
        connection.settimeout(pause)
        heard = b""
        while time.monotonic() - begun < seconds:
            try:
                connection.sendall(piece)
                part = connection.recv(4096)
                if not part:
                    break
                heard += part
            except TimeoutError:
                continue
            except OSError:
                break
        return time.monotonic() - begun, heard


@pytest.mark.parametrize(
    ("begin", "piece", "status"),
    [
        (b"", b"", b""),
        (b"POST /v2", b"x", b""),
        (b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n", b""),
        (b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n", b" ", b"408"),
        (
            b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\n \r\n",
            b"408",
        ),
        (b"POST /pow/v1/redeem HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n", b" ", b"408"),
    ],
)
def test_callers_that_drip_are_sent_away(front, begin, piece, status):
    seconds, heard = drip(front.port, begin, piece, 0.1, 8.0)
    assert seconds < 5.0
    assert status in heard.split(b"\r\n", 1)[0]


def test_a_kept_connection_cannot_be_held_by_half_a_head(front):
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    seconds, heard = drip(front.port, request + b"GET /", b"A", 0.1, 8.0)
    assert heard.startswith(b"HTTP/1.1 200")
    assert seconds < 5.0


def test_heads_have_a_size(front):
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 200_000
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", front.port)) as connection:
        connection.settimeout(5)
        try:
            connection.sendall(head)
            assert connection.recv(4096)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 431")
        except OSError:
            pass
    assert time.monotonic() - begun < 4


def test_bodies_have_a_size_whether_stated_or_not(front):
    def chunks():
        for _ in range(40):
            yield b" " * 4096

    with httpx.Client(base_url=front.url) as client:
        assert client.post(INFER, content=b" " * 70_000).status_code == 413
        assert client.post(INFER, content=chunks()).status_code == 413
        assert client.post(INFER, content=b"{}", headers={"Content-Length": "2"}).status_code == 400


def test_callers_that_drip_do_not_keep_others_waiting(front):
    begin = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
    drips = [threading.Thread(target=drip, args=(front.port, begin, b" ", 0.1, 1.5)) for _ in range(30)]
    for thread in drips:
        thread.start()
    with httpx.Client(base_url=front.url) as client:
        begun = time.monotonic()
        open_account(client)
        assert time.monotonic() - begun < 1.5
    for thread in drips:
        thread.join()


def test_connections_are_counted(tmp_path):
    with running(tmp_path, "slow", "connections=5") as process:
        held = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(5)]
        time.sleep(0.2)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{process.url}/v2/health/live")
        for connection in held:
            connection.close()
        time.sleep(0.2)
        assert httpx.get(f"{process.url}/v2/health/live").status_code == 200


# --- the server behind, and signals ------------------------------------------------------------------
def test_a_server_behind_that_fails_costs_nothing(tmp_path):
    with (
        onnx_server(tmp_path) as url,
        running(tmp_path, url) as process,
        httpx.Client(base_url=process.url) as client,
    ):
        key = open_account(client)
        httpx.post(f"{url}/test/down")
        refused = client.post(INFER, json=as_json(rows(1)), headers={"Authorization": f"Bearer {key}"})
        assert refused.status_code == 503
        assert client.get("/v2/health/ready").status_code == 503
        httpx.post(f"{url}/test/up")
        assert client.get("/v2/health/ready").status_code == 200
        process.stop()
        queries, unbalanced, _ = process.books()
        assert sorted(query.status for query in queries) == ["refunded", "settled"]
        assert unbalanced == []


def load(process, seconds, workers=4):
    """Ask as fast as accounts and debts allow; return the answers that were received."""
    stop, answered, lock = time.monotonic() + seconds, [], threading.Lock()

    def caller(index):
        with httpx.Client(base_url=process.url, timeout=10) as client:
            try:
                key = open_account(client)
                with lock:
                    answered.append(key)
                number = 0
                while time.monotonic() < stop:
                    number += 1
                    x = rows(1, seed=1000 * index + number)
                    headers = {"Authorization": f"Bearer {key}"}
                    response = client.post(INFER, json=as_json(x), headers=headers)
                    if response.status_code == 428:
                        headers["PoW-Proof"] = solve(response.json()["challenge"])
                        response = client.post(INFER, json=as_json(x), headers=headers)
                    if response.status_code == 200:
                        with lock:
                            answered.append(key)
            except (httpx.TransportError, json.JSONDecodeError):
                return  # the gateway is gone

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(workers)]
    for thread in threads:
        thread.start()
    return threads, answered


def test_a_graceful_end_answers_what_was_begun_and_bills_all_of_it(tmp_path):
    with running(tmp_path, "slow") as process:
        threads, answered = load(process, 1.5)
        time.sleep(1.2)
        assert process.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
        for thread in threads:
            thread.join(20)
        queries, unbalanced, accounts = process.books()
        assert {query.status for query in queries} == {"settled"}
        assert len(queries) == len(answered) > 4
        assert unbalanced == []
        assert all(account.state.reserved == 0 for account in accounts)


def test_a_killed_gateway_loses_no_debit_and_no_claim(tmp_path):
    with running(tmp_path, "slow") as process:
        threads, answered = load(process, 3.0)
        time.sleep(1.2)
        process.stop(signal.SIGKILL)
        for thread in threads:
            thread.join(20)
        queries, unbalanced, _ = process.books()
        # Whoever has an answer has it in the books, billed or reserved.
        assert len(queries) >= len(answered) > 4
        assert "admitted" in {query.status for query in queries}
        assert unbalanced == []
        for account in set(answered):
            name = account.split(".")[1]
            assert sum(query.account == name for query in queries) >= answered.count(account)
        store = SqlStore(process.store_url)
        store.sweep(time.time() + 3600)
        assert {query.status for query in store.queries(limit=10_000)} <= {"settled", "expired"}
        assert store.unbalanced() == []
        store.close()


def test_a_proof_stays_used_after_a_restart(tmp_path):
    process = Process(tmp_path, "slow")
    try:
        with httpx.Client(base_url=process.url) as client:
            asked = client.post(INFER, json=as_json(rows(1)))
            proof = {"PoW-Proof": solve(asked.json()["challenge"])}
            assert client.post(INFER, json=as_json(rows(1)), headers=proof).status_code == 200
        process.stop(signal.SIGKILL)
        process.start()
        with httpx.Client(base_url=process.url) as client:
            assert client.post(INFER, json=as_json(rows(1)), headers=proof).status_code == 409
    finally:
        process.stop(signal.SIGKILL)
