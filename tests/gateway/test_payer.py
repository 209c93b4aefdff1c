import asyncio
import dataclasses
import json
import threading
import time

import httpx
import pytest
from paying_server import PayingServer

from assay.adapters.http_client import HttpClient
from assay.errors import InvalidInput, PaymentRefused, SuspectUnreachable
from assay.puzzles.payer import Payer
from assay.puzzles.solver import Solver

BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, -2.5]}]}
INFER = "/v2/models/m/infer"


@pytest.fixture
def payer():
    with Solver(workers=1, backend="local") as solver:
        yield Payer(solver=solver, max_seconds=20)


def test_a_request_pays_and_is_repeated(payer):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        answer = client.post(server.url + INFER, json=BODY)
        assert answer.status_code == 200
        assert server.statuses() == [428, 200]
        assert payer.paid.challenges == 1
        assert payer.paid.units == 3.0
        assert payer.paid.hashes >= 4
        assert payer.paid.seconds > 0
        key = payer.account(server.url)
        assert server.books == {key: 0.0}
        # The next request belongs to the same account and pays for itself only.
        assert client.post(server.url + INFER, json=BODY).status_code == 200
        assert payer.paid.units == 4.0
        assert set(server.books) == {key}


def test_streamed_answers_are_paid_for_too(payer):
    with (
        PayingServer() as server,
        httpx.Client(auth=payer) as client,
        client.stream("POST", server.url + INFER, json=BODY) as answer,
    ):
        assert json.loads(answer.read())["model_name"] == "m"


def test_asynchronous_clients_pay(payer):
    async def ask(url):
        async with httpx.AsyncClient(auth=payer) as client:
            return (await client.post(url, json=BODY)).status_code

    with PayingServer() as server:
        assert asyncio.run(ask(server.url + INFER)) == 200
        assert server.statuses() == [428, 200]


def test_nothing_is_paid_where_nothing_is_asked(payer):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        assert client.get(server.url + "/v2/models/m").status_code == 200
        assert client.get(server.url + "/nowhere").status_code == 404
    assert payer.paid.challenges == 0


@pytest.mark.parametrize("status", [409, 410])
def test_a_proof_that_came_too_late_is_made_anew(payer, status):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        server.script = [None, (status, {"detail": "too late"})]
        assert client.post(server.url + INFER, json=BODY).status_code == 200
        assert server.statuses() == [428, status, 428, 200]


def test_a_gateway_that_never_has_enough_is_given_up(payer):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        server.infer = lambda *_: (428, {"detail": "more", **server.challenge("a", "query", 1.0, "00" * 32)})
        assert client.post(server.url + INFER, json=BODY).status_code == 428
        assert server.statuses() == [428] * 5


def test_the_limit_holds_for_all_payments_of_a_request_together(payer):
    # Two million hashes each: one may fit into the limit on a fast machine, four do not.
    with PayingServer(bits=21) as server, httpx.Client(auth=payer) as client:
        server.infer = lambda *_: (428, {"detail": "more", **server.challenge("a", "query", 1.0, "00" * 32)})
        payer.max_seconds = 0.25
        with pytest.raises(PaymentRefused, match=r"0.25 s are allowed|not found within"):
            client.post(server.url + INFER, json=BODY)
    assert payer.paid.seconds <= 0.35


def hard(claims):
    return dataclasses.replace(claims, target64=1 << 8)


def test_absurd_difficulties_are_refused_before_any_work(payer):
    with PayingServer(changes=hard) as server, httpx.Client(auth=payer) as client:
        with pytest.raises(
            PaymentRefused, match=r"asks for 58.0 bits of work, about .* s here; 20 s are allowed"
        ):
            client.post(server.url + INFER, json=BODY)
        assert server.statuses() == [428]
    assert payer.paid.challenges == 0


def test_what_cannot_be_solved_before_it_expires_is_refused(payer):
    payer.max_seconds = 1e15
    with (
        PayingServer(changes=hard) as server,
        httpx.Client(auth=payer) as client,
        pytest.raises(PaymentRefused, match="but gives 60 s"),
    ):
        client.post(server.url + INFER, json=BODY)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"challenge": 5}',
        b'{"challenge": "noise"}',
        b'{"challenge": "e30.' + b"A" * 43 + b'"}',
        b"[" * 10_000,
        b"\xff\xfe",
    ],
)
def test_demands_that_make_no_sense_are_refused(payer, body):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        server.script = [(428, body)]
        with pytest.raises(PaymentRefused, match="not understood"):
            client.post(server.url + INFER, json=BODY)


def test_an_account_key_that_would_break_a_header_is_refused(payer):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        document = {**server.challenge(None, "query", 1.0, "00" * 32), "account_key": "a\r\nX: y"}
        server.script = [(428, document)]
        with pytest.raises(PaymentRefused, match="cannot be sent back"):
            client.post(server.url + INFER, json=BODY)


def test_endless_demands_are_cut_off(payer):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        server.script = [(428, b" " * 100_000)]
        with pytest.raises(PaymentRefused, match="more than 16384 bytes"):
            client.post(server.url + INFER, json=BODY)


def test_account_keys_go_to_their_own_gateway_only(payer):
    with PayingServer() as one, PayingServer() as other, httpx.Client(auth=payer) as client:
        client.post(one.url + INFER, json=BODY)
        client.post(other.url + INFER, json=BODY)
        assert payer.account(one.url) != payer.account(other.url)
        assert set(one.books) == {payer.account(one.url)}
        assert set(other.books) == {payer.account(other.url)}


def test_an_authorization_of_ones_own_is_left_alone(payer):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        client.post(server.url + INFER, json=BODY, headers={"Authorization": "Bearer mine"})
        client.post(server.url + INFER, json=BODY, headers={"Authorization": "Bearer mine"})
        assert set(server.books) == {"mine"}


def test_an_account_opened_earlier_is_used():
    payer = Payer(account="earlier", solver=Solver(workers=1, backend="local"))
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        client.post(server.url + INFER, json=BODY)
        assert set(server.books) == {"earlier"}
        payer.adopt(server.url, "later")
        client.post(server.url + INFER, json=BODY)
        assert set(server.books) == {"earlier", "later"}


def test_threads_pay_one_after_the_other(payer):
    with PayingServer() as server, httpx.Client(auth=payer) as client:
        client.post(server.url + INFER, json=BODY)
        found = []
        threads = [
            threading.Thread(
                target=lambda: found.append(client.post(server.url + INFER, json=BODY).status_code)
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [200] * 4
        assert len(server.books) == 1


def test_closing_stops_the_search(payer):
    with PayingServer(changes=lambda claims: dataclasses.replace(claims, target64=1 << 35)) as server:
        payer.max_seconds = 1e15
        server.lifetime = 10**8
        with httpx.Client(auth=payer) as client:
            threading.Timer(0.3, payer.close).start()
            started = time.monotonic()
            with pytest.raises(PaymentRefused, match="cancelled"):
                client.post(server.url + INFER, json=BODY)
            assert time.monotonic() - started < 5


def test_bad_limits_are_refused():
    for seconds in (0, -1, float("nan")):
        with pytest.raises(InvalidInput):
            Payer(max_seconds=seconds)


# --- the client that every model behind a URL is asked with -----------------------------------


def test_the_http_client_pays_by_itself():
    with PayingServer() as server, HttpClient(server.url) as client:
        assert json.loads(client.request("POST", INFER, BODY))["model_name"] == "m"
        assert client.paid.challenges == 1
        assert server.statuses() == [428, 200]


def test_paying_can_be_switched_off():
    with PayingServer() as server, HttpClient(server.url, pay=False) as client:
        with pytest.raises(SuspectUnreachable, match="work is due"):
            client.request("POST", INFER, BODY)
        assert client.paid.challenges == 0


def test_refusals_say_what_the_gateway_says():
    with PayingServer() as server, HttpClient(server.url, retries=0) as client:
        server.script = [(403, {"detail": "the account\x1b[31m is \nclosed"})]
        with pytest.raises(SuspectUnreachable, match=r"status 403; the account\[31m is closed$"):
            client.request("GET", "/v2/models/m")
        for body in (b"{", b"[]", b'{"detail": 5}', b" " * 20_000):
            server.script = [(403, body)]
            with pytest.raises(SuspectUnreachable, match="credentials do not allow"):
                client.request("GET", "/v2/models/m")


def test_absurd_demands_reach_the_caller_as_they_are():
    with PayingServer(changes=hard) as server, HttpClient(server.url) as client:
        with pytest.raises(PaymentRefused, match="600 s are allowed"):
            client.request("POST", INFER, BODY)
        assert server.statuses() == [428]
