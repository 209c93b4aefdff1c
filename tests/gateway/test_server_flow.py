from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import (
    CLASSES,
    INFER,
    Counted,
    as_binary,
    as_json,
    make_policy,
    rows,
    serving,
    solve,
)
from serving import ask as call

from assay.gateway.keys import Clock
from assay.gateway.policy import Budgets
from assay.gateway.pricing import item_units
from assay.gateway.server.gate import Asked
from assay.gateway.store.base import StoreDown
from assay.leakage.base import Estimator
from assay.puzzles import sha256_puzzle
from assay.puzzles.difficulty import target64
from assay.puzzles.proof import decode_proof, encode_proof
from assay.puzzles.tokens import mint, read_claims


@pytest.fixture
def gateway(tmp_path):
    with serving(tmp_path) as running:
        yield running


def problem(response, status, kind):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:assay:problem:{kind}"
    assert body["status"] == status
    assert body["error"] == body["detail"]
    return body


def ask(gateway, x, **more):
    """Return the challenge of a request that was not paid."""
    return problem(gateway.infer(x, **more), 428, "payment-required")


# --- the way in ------------------------------------------------------------------------------
def test_a_stranger_pays_a_deposit_once_and_is_answered(gateway):
    x = rows(2)
    asked = gateway.infer(x)
    body = problem(asked, 428, "payment-required")
    assert gateway.upstream.count == 0
    assert asked.headers["pow-account"] == body["account_key"]
    assert {"challenge", "price_units", "bits", "expires", "retry", "account"} <= body.keys()
    claims = read_claims(body["challenge"])
    assert (claims.purpose, claims.n_items, claims.model) == ("deposit", 2, "m")
    proof = solve(body["challenge"])
    answered = gateway.infer(x, proof=proof)
    assert answered.status_code == 200
    assert json.loads(answered.headers["pow-receipt"])["jti"] == claims.jti
    output = answered.json()["outputs"][0]
    assert output["shape"] == [2, CLASSES]
    problem(gateway.infer(x, proof=proof), 409, "proof-replayed")
    assert gateway.upstream.count == 1


def test_debt_above_what_is_free_asks_for_work_and_work_pays_it(gateway):
    key = gateway.open_account()
    statuses = []
    for i in range(40):
        gateway.settled()
        response = gateway.infer(rows(1, seed=i), key=key)
        if response.status_code == 428:
            claims = read_claims(response.json()["challenge"])
            assert claims.purpose == "query"
            assert response.json()["price_units"] == claims.price_units > 0
            assert "account_key" not in response.json()
            response = gateway.infer(rows(1, seed=i), key=key, proof=solve(response.json()["challenge"]))
            statuses.append("paid")
        assert response.status_code == 200
    assert statuses
    gateway.settled()
    books = gateway.get("/pow/v1/account", headers={"Authorization": f"Bearer {key}"}).json()
    assert books["queries"] == 41
    assert books["work_paid_units"] > 16
    assert gateway.store.unbalanced() == []


def test_banked_work_is_spent_without_a_challenge(gateway):
    key = gateway.open_account()
    headers = {"Authorization": f"Bearer {key}"}
    asked = gateway.post("/pow/v1/challenge", json={"purpose": "credit", "units": 40}, headers=headers)
    proof = solve(asked.json()["challenge"])
    receipt = gateway.post("/pow/v1/redeem", json={"proof": proof}).json()
    assert receipt["account_key"] == key
    assert receipt["credit_units"] > 20
    problem(gateway.post("/pow/v1/redeem", json={"proof": proof}), 409, "proof-replayed")
    for i in range(20):
        assert gateway.infer(rows(1, seed=100 + i), key=key).status_code == 200
        gateway.settled()
    problem(gateway.infer(rows(1), key=key, proof=proof), 403, "proof-invalid")


def test_an_account_can_be_opened_before_the_first_query(gateway):
    opened = gateway.post("/pow/v1/account").json()
    headers = {"Authorization": f"Bearer {opened['account_key']}"}
    problem(gateway.get("/pow/v1/account", headers=headers), 404, "not-found")
    asked = gateway.post("/pow/v1/challenge", json={"purpose": "deposit"}, headers=headers).json()
    assert asked["account"] == opened["account"]
    gateway.post("/pow/v1/redeem", json={"proof": solve(asked["challenge"])})
    assert gateway.get("/pow/v1/account", headers=headers).json()["deposit_due_units"] == 0
    assert gateway.infer(rows(1), key=opened["account_key"]).status_code == 200


def test_the_proof_may_travel_in_the_body_and_the_receipt_comes_back_there(gateway):
    x = rows(1)
    proof = solve(ask(gateway, x)["challenge"])
    answer = gateway.post(INFER, json=as_json(x, parameters={"pow": proof}))
    assert answer.status_code == 200
    receipt = answer.json()["parameters"]["pow_receipt"]
    assert receipt == json.loads(answer.headers["pow-receipt"])


def test_binary_and_json_bodies_are_one_query(gateway):
    x = rows(3)
    proof = solve(ask(gateway, x)["challenge"])
    body, headers = as_binary(x, parameters={"binary_data_output": True}, id="q7")
    answer = gateway.post(INFER, content=body, headers={**headers, "PoW-Proof": proof})
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["id"] == "q7"
    scores = np.frombuffer(answer.content[length:], "<f4").reshape(3, CLASSES)
    assert np.allclose(scores.sum(1), 1, atol=1e-6)


def test_a_challenge_can_be_had_without_a_query_and_pays_it(gateway):
    from assay.puzzles.query import QueryTensor, query_digest

    x = rows(2)
    digest = query_digest([QueryTensor("x", "FP32", x.shape, x.tobytes())])
    wanted = {"model": "m", "query_digest": digest, "n_items": 2}
    asked = gateway.post("/pow/v1/challenge", json=wanted)
    assert asked.headers["pow-account"] == asked.json()["account_key"]
    assert gateway.infer(x, proof=solve(asked.json()["challenge"])).status_code == 200


# --- P2, P3, P4: whatever is not exactly right is refused before any model runs -------------------
def flip(text, at):
    """Change one bit of what a base64 token says."""
    part, dot, rest = text.partition(".")
    raw = bytearray(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    raw[at] ^= 1
    return urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode() + dot + rest


def test_every_altered_byte_of_the_claims_is_refused(gateway):
    x = rows(1)
    proof = solve(ask(gateway, x)["challenge"])
    token, _, nonces = proof.partition(";")
    length = len(urlsafe_b64decode(token.partition(".")[0] + "=="))
    for at in range(length):
        problem(gateway.infer(x, proof=f"{flip(token, at)};{nonces}"), 403, "proof-invalid")
    for at in range(token.index(".") + 1, len(token)):
        other = "A" if token[at] != "A" else "B"
        problem(
            gateway.infer(x, proof=f"{token[:at]}{other}{token[at + 1 :]};{nonces}"), 403, "proof-invalid"
        )
    assert gateway.upstream.count == 0
    assert gateway.infer(x, proof=proof).status_code == 200


def forged(gateway, x, **changes):
    """Return a solved proof whose claims are signed with the real key, but differ from what is asked."""
    from assay.puzzles.query import QueryTensor, query_digest

    gate, now = gateway.gateway.gate, gateway.gateway.clock()
    digest = query_digest([QueryTensor("x", "FP32", x.shape, x.tobytes())])
    made = gate.challenge("ab" * 16, None, 16.0, "deposit", Asked("m", "", digest, len(x)))
    claims = read_claims(made["challenge"])
    _, key = gateway.gateway.keys.signing(now)
    if "kid" in changes and changes["kid"] is None:
        changes["kid"], key = "other", bytes(32)
    return solve(mint(replace(claims, **changes), key))


CASES = {
    "expired": ({"iat": 1000, "exp": 1060}, 410),
    "from the future": ({"iat": 2**33, "exp": 2**33 + 60}, 403),
    "unknown key": ({"kid": None}, 403),
    "key of another name": ({"kid": "other-key"}, 403),
    "other algorithm": ({"alg": "scrypt", "memory": 10, "k": 4, "target64": 2**63}, 403),
    "raised target": ({"target64": 2**61}, 403),
    "older policy": ({"policy_version": 0}, 403),
    "other model": ({"model": "n"}, 403),
    "other version": ({"model_version": "1"}, 403),
    "other query": ({"query_digest": "0" * 64}, 403),
    "other client": ({"client": "c"}, 403),
    "for banking": ({"purpose": "credit", "query_digest": "", "model": ""}, 403),
}


@pytest.mark.parametrize("name", CASES)
def test_signed_claims_that_do_not_fit_are_refused(gateway, name, monkeypatch):
    changes, status = CASES[name]
    x = rows(1)
    if changes.get("alg") == "scrypt":
        monkeypatch.setattr("serving.solve", lambda token: encode_proof(token, [1, 2, 3, 4]))
        proof = encode_proof(forged_token(gateway, x, **changes), [1, 2, 3, 4])
    else:
        proof = forged(gateway, x, **dict(changes))
    response = gateway.infer(x, proof=proof)
    assert response.status_code == status, response.text
    assert gateway.upstream.count == 0
    assert gateway.store.accounts()[1] == 0


def forged_token(gateway, x, **changes):
    from assay.puzzles.query import QueryTensor, query_digest

    gate = gateway.gateway.gate
    digest = query_digest([QueryTensor("x", "FP32", x.shape, x.tobytes())])
    made = gate.challenge("ab" * 16, None, 16.0, "deposit", Asked("m", "", digest, len(x)))
    _, key = gateway.gateway.keys.signing(gateway.gateway.clock())
    return mint(replace(read_claims(made["challenge"]), **changes), key)


def test_the_forgery_that_changes_nothing_passes(gateway):
    # Control of the cases above: the same way of making a proof is accepted when all of it fits.
    assert gateway.infer(rows(1), proof=forged(gateway, rows(1))).status_code == 200


def test_a_swapped_query_or_account_or_version_is_refused(gateway):
    x, other = rows(1), rows(1, seed=1)
    asked = gateway.infer(x)
    proof = solve(asked.json()["challenge"])
    problem(gateway.infer(other, proof=proof), 403, "proof-invalid")
    problem(gateway.infer(x, proof=proof, path="/v2/models/m/versions/1/infer"), 403, "proof-invalid")
    stranger = gateway.post("/pow/v1/account").json()["account_key"]
    problem(gateway.infer(x, proof=proof, key=stranger), 403, "proof-invalid")
    problem(gateway.infer(x, proof=proof, key="a1." + "0" * 32 + "." + "0" * 32), 401, "unknown-account")
    renamed = as_json(x)
    renamed["inputs"][0]["datatype"] = "FP64"
    problem(gateway.post(INFER, json=renamed, headers={"PoW-Proof": proof}), 422, "does-not-fit")
    assert gateway.upstream.count == 0
    assert gateway.infer(x, proof=proof, key=asked.json()["account_key"]).status_code == 200


def test_solutions_must_meet_the_target_of_this_very_challenge(gateway):
    x = rows(1)
    first, second = ask(gateway, x)["challenge"], ask(gateway, x)["challenge"]
    token, nonces = decode_proof(solve(first))
    seed, claims = sha256_puzzle.seed(first), read_claims(first)
    miss = next(n for n in range(100) if not sha256_puzzle.is_solution(seed, 0, n, claims.target64))
    for bad in (
        encode_proof(token, [miss, *nonces[1:]]),
        encode_proof(token, nonces[:-1]),
        encode_proof(token, [*nonces, 0]),
        encode_proof(token, [nonces[0]] * claims.k),
        encode_proof(second, nonces),
        f"{token};",
        f"{token};{','.join(f'{n:05}' for n in nonces)}",
        f"{token};{','.join(map(hex, nonces))}",
        token,
        ";",
        "x" * 20_000,
    ):
        problem(gateway.infer(x, proof=bad), 403, "proof-invalid")
    both = gateway.post(
        INFER, json=as_json(x, parameters={"pow": encode_proof(token, nonces)}), headers={"PoW-Proof": "a;1"}
    )
    problem(both, 403, "proof-invalid")
    assert gateway.upstream.count == 0


def test_a_floor_that_has_risen_refuses_what_is_now_too_easy(tmp_path):
    x = rows(1)
    with serving(tmp_path) as before:
        easy = forged_token(before, x, target64=target64(6.0, 4), price_units=2.0)
    with serving(tmp_path, make_policy(version=2, puzzle={"min_bits": 8.0})) as after:
        problem(after.infer(x, proof=solve(easy)), 403, "proof-invalid")
        assert after.upstream.count == 0


def test_concurrent_uses_of_one_proof_have_one_winner(gateway):
    x = rows(1)
    proof = solve(ask(gateway, x)["challenge"])

    async def together():
        post = gateway.http.post
        return await asyncio.gather(
            *(post(INFER, json=as_json(x), headers={"PoW-Proof": proof}) for _ in range(8))
        )

    statuses = sorted(response.status_code for response in gateway.run(together()))
    assert statuses == [200] + [409] * 7
    assert gateway.upstream.count == 1


# --- P6 and friends: what is down -----------------------------------------------------------------
def test_a_store_that_is_down_denies_everything_and_is_counted(gateway, monkeypatch):
    key, failures = gateway.open_account(), []
    gateway.settled()
    count = gateway.upstream.count
    monkeypatch.setattr(gateway.gateway.meter, "failed", failures.append)

    def down(*_args, **_kwargs):
        msg = "no answer"
        raise StoreDown(msg)

    for name in ("admit", "account", "bank", "ping"):
        monkeypatch.setattr(gateway.store, name, down)
    for _ in range(3):
        refused = gateway.infer(rows(1), key=key)
        problem(refused, 503, "unavailable")
        assert int(refused.headers["retry-after"]) >= 1
    problem(gateway.get("/v2/health/ready"), 503, "unavailable")
    headers = {"Authorization": f"Bearer {key}"}
    problem(gateway.get("/pow/v1/account", headers=headers), 503, "unavailable")
    assert gateway.get("/v2/health/live").status_code == 200
    assert gateway.upstream.count <= count + 1  # asked ahead of the books, once for the answer before
    assert failures.count("store") == 5


def test_a_bill_waits_for_a_store_that_comes_back(gateway, monkeypatch):
    key = gateway.open_account()
    gateway.settled()
    settle, calls = gateway.store.settle_all, []

    def flaky(*args, **kwargs):
        calls.append(1)
        if len(calls) < 3:
            msg = "no answer"
            raise StoreDown(msg)
        return settle(*args, **kwargs)

    monkeypatch.setattr(gateway.store, "settle_all", flaky)
    assert gateway.infer(rows(1, seed=3), key=key).status_code == 200
    gateway.settled()
    assert len(calls) == 3
    assert gateway.store.queries(limit=1)[0].status == "settled"


def test_a_query_that_cannot_be_priced_holds_up_no_other(gateway, monkeypatch):
    key = gateway.open_account()
    gateway.settled()
    settle, together, waiting = gateway.store.settle_all, [], []

    def picky(bills, *args, **kwargs):
        together.append(len(bills))
        if bills[0].query_id == queries[0].id:
            raise ZeroDivisionError
        return settle(bills, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(gateway.gateway.settler, "submit", lambda served: waiting.append(served) or True)
        for seed in range(3):
            assert gateway.infer(rows(1, seed=seed), key=key).status_code == 200
    queries = sorted(gateway.store.queries(limit=3), key=lambda row: row.at)
    monkeypatch.setattr(gateway.store, "settle_all", picky)
    for served in waiting:
        gateway.gateway.settler.submit(served)
    gateway.settled()
    status = {row.id: row.status for row in gateway.store.queries(limit=3)}
    assert [status[row.id] for row in queries] == ["admitted", "settled", "settled"]
    assert max(together) > 1


def test_an_upstream_that_is_down_costs_nothing_but_the_proof_stays_used(gateway):
    x = rows(1)
    proof = solve(ask(gateway, x)["challenge"])
    gateway.upstream.down = True
    body = problem(gateway.infer(x, proof=proof), 503, "unavailable")
    assert "nothing was charged" in body["detail"]
    problem(gateway.infer(x, proof=proof), 409, "proof-replayed")
    query = gateway.store.queries(limit=1)[0]
    assert query.status == "refunded"
    state = gateway.store.account(query.account)
    assert state.reserved == state.debt == 0
    gateway.upstream.down = False
    key = gateway.gateway.gate.account_key(query.account)
    assert gateway.infer(x, key=key).status_code == 200
    assert gateway.store.unbalanced() == []


def test_a_refund_that_the_store_misses_is_made_up(gateway, monkeypatch):
    x, refund, calls = rows(1), gateway.store.refund, []

    def flaky(*args, **kwargs):
        calls.append(1)
        if len(calls) < 3:
            msg = "no answer"
            raise StoreDown(msg)
        return refund(*args, **kwargs)

    monkeypatch.setattr(gateway.store, "refund", flaky)
    proof = solve(ask(gateway, x)["challenge"])
    gateway.upstream.down = True
    problem(gateway.infer(x, proof=proof), 503, "unavailable")
    gateway.settled()
    assert gateway.store.queries(limit=1)[0].status == "refunded"


def test_a_clock_that_jumps_back_issues_nothing(tmp_path):
    with serving(tmp_path) as gateway:
        source = time.time
        clock = gateway.gateway.gate.clock = Clock(lambda: source() + offset[0])
        offset = [0.0]
        assert gateway.infer(rows(1)).status_code == 428
        offset[0] = -3600.0
        problem(gateway.infer(rows(1)), 503, "unavailable")
        assert clock() > source() - 60


# --- limits ---------------------------------------------------------------------------------------
def test_sizes_are_limited_before_anything_is_computed(gateway):
    problem(gateway.infer(rows(9)), 413, "too-large")
    problem(gateway.post(INFER, content=b"x" * 70_000), 413, "too-large")
    problem(gateway.post("/pow/v1/redeem", content=b"x" * 70_000), 413, "too-large")
    wide = rows(1)[:, :7]
    problem(gateway.infer(wide), 422, "does-not-fit")
    problem(
        gateway.post(INFER, content=b"{}", headers={"Content-Type": "text/csv"}),
        415,
        "unsupported-media-type",
    )
    problem(
        gateway.post(INFER, content=b"{}", headers={"Content-Encoding": "gzip"}),
        415,
        "unsupported-media-type",
    )
    problem(
        gateway.post(INFER, content=b"{}", headers={"Inference-Header-Content-Length": "-1"}),
        400,
        "bad-request",
    )
    assert gateway.upstream.count == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", INFER, 405),
        ("POST", "/v2/models/none/infer", 404),
        ("POST", "/v2/models/m/versions/9/infer", 404),
        ("POST", "/v2/models/m/other/1/infer", 404),
        ("POST", "/v2/models/../infer", 404),
        ("POST", "/v2/models/a%2F..%2Fb/infer", 404),
        ("POST", "/v2/models/m%00/infer", 404),
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/m%20x", 404),
        ("GET", "/nothing", 404),
        ("PUT", "/pow/v1/redeem", 405),
        ("GET", "/pow/v1/account", 401),
        ("POST", "/v2/repository/models/m/load", 404),
    ],
)
def test_other_pages_are_problems(gateway, method, path, status):
    response = gateway.request(method, path, json=as_json(rows(1)) if method == "POST" else None)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_the_pages_of_the_protocol(gateway):
    assert gateway.get("/v2").json()["name"] == "assay"
    assert gateway.get("/v2/health/ready").status_code == 200
    assert gateway.get("/v2/models/m/versions/2").json()["inputs"][0]["shape"] == [-1, 8]
    assert gateway.get("/v2/models/m/ready").status_code == 200
    gateway.upstream.down = True
    problem(gateway.get("/v2/health/ready"), 503, "unavailable")
    policy = gateway.get("/pow/v1/policy").json()
    assert policy["k"] == 4
    # What would tell an attacker where the alarm is stays inside.
    assert not policy.keys() & {"threshold", "llr_edges", "beta", "mean_cost", "eta"}


def test_one_account_cannot_take_all_places(tmp_path):
    policy = make_policy(limits={"account_concurrency": 2, "concurrency": 3})
    with serving(tmp_path, policy) as gateway:
        key, other = gateway.open_account(), gateway.open_account()
        gateway.settled()

        async def crowd():
            gateway.upstream.gate = asyncio.Event()
            post = gateway.http.post
            headers = {"Authorization": f"Bearer {key}"}
            first = [
                asyncio.ensure_future(post(INFER, json=as_json(rows(1, i)), headers=headers))
                for i in range(2)
            ]
            await asyncio.sleep(0.3)
            third = await post(INFER, json=as_json(rows(1)), headers=headers)
            more = {"Authorization": f"Bearer {other}"}
            fourth = asyncio.ensure_future(post(INFER, json=as_json(rows(1)), headers=more))
            await asyncio.sleep(0.3)
            fifth = await post(INFER, json=as_json(rows(1)), headers=more)
            gateway.upstream.gate.set()
            return [r.status_code for r in (third, fifth, await fourth, *await asyncio.gather(*first))]

        assert gateway.run(crowd()) == [429, 503, 200, 200, 200]


def test_concurrent_requests_cannot_outrun_their_prices(tmp_path):
    """Open reservations count: many requests at once are answered no further than the cap."""
    policy = make_policy(limits={"account_concurrency": 64})
    with serving(tmp_path, policy) as gateway:
        key = gateway.open_account()
        gateway.settled()

        async def rush():
            gateway.upstream.gate = asyncio.Event()
            post, headers = gateway.http.post, {"Authorization": f"Bearer {key}"}
            jobs = [
                asyncio.ensure_future(post(INFER, json=as_json(rows(1, i)), headers=headers))
                for i in range(30)
            ]
            await asyncio.sleep(1.0)
            gateway.upstream.gate.set()
            return [r.status_code for r in await asyncio.gather(*jobs)]

        statuses = gateway.run(rush())
        served = statuses.count(200)
        assert 1 <= served <= 16 / 2
        assert set(statuses) <= {200, 428, 429}


def test_budgets_end_in_429(tmp_path):
    policy = make_policy(budgets=Budgets(queries_per_day=3, throttle_at=1.0))
    with serving(tmp_path, policy) as gateway:
        key = gateway.open_account()
        statuses = []
        for i in range(4):
            gateway.settled()
            statuses.append(gateway.infer(rows(1, seed=i), key=key).status_code)
        assert statuses[-1] == 429
        assert statuses[0] == 200


# --- P8, P9: prices tell nothing and cost nothing -----------------------------------------------------
class Watched(Estimator):
    """An estimator that counts its calls; log q is a known function of the input."""

    reads_scores = False

    def __init__(self):
        self.name, self.sigma, self.input_shape, self.num_classes, self.calls = "watched", 2.0, (8,), 4, 0

    def log_q(self, x, *, scores=None):
        self.calls += len(x)
        return truth(x.numpy())

    def _measure(self, x, scores):
        raise NotImplementedError


def truth(x):
    return -np.exp(3 * np.tanh(x[:, 0])).astype(np.float64)


def with_estimator(gateway, estimator):
    gateway.gateway.settler._estimator = estimator
    return gateway


def test_a_flood_of_challenges_runs_no_model_and_no_estimator(gateway):
    estimator = Watched()
    with_estimator(gateway, estimator)
    key = gateway.open_account()
    gateway.settled()
    calls, count = estimator.calls, gateway.upstream.count
    assert calls == count == 1

    query = json.dumps(as_json(rows(2))).encode()
    body = json.dumps({"model": "m", "query_digest": "0" * 64, "n_items": 4}).encode()

    async def flood():
        for _ in range(10):
            found = await asyncio.gather(
                *(call(gateway.app, body, path="/pow/v1/challenge", key=key) for _ in range(50)),
                *(call(gateway.app, query) for _ in range(50)),
            )
            assert {status for status, _, _ in found} == {200, 428}

    gateway.run(flood(), 60)
    assert (estimator.calls, gateway.upstream.count) == (calls, count)


def test_a_flood_of_bad_proofs_costs_no_inference_and_no_write(gateway):
    x = rows(1)
    token, _, _ = solve(ask(gateway, x)["challenge"]).partition(";")
    before = len(gateway.store.journal(limit=1000))

    body, bad = json.dumps(as_json(x)).encode(), f"{token};1,2,3,4".encode()

    async def flood():
        found = [await call(gateway.app, body, proof=bad) for _ in range(500)]
        assert {status for status, _, _ in found} == {403}

    gateway.run(flood())
    assert gateway.upstream.count == 0
    assert len(gateway.store.journal(limit=1000)) == before


def test_the_price_tells_nothing_about_its_own_query(tmp_path):
    """The offer for a query is the same whatever the query leaks: AUROC one half."""
    policy = make_policy(free_units=0.0, limits={"max_items": 8})
    with serving(tmp_path, policy) as gateway:
        with_estimator(gateway, Watched())
        key = gateway.open_account()
        rng, prices, leaks, high, exact = np.random.default_rng(0), [], [], [], []
        for block in range(8):
            # A bill that is still on its way would change what is owed between two offers.
            gateway.settled()
            shape, found = (1 + block % 3, 8), []
            while gateway.infer(rng.normal(size=shape).astype(np.float32), key=key).status_code == 200:
                gateway.settled()
            for _ in range(24):
                x = rng.normal(size=shape).astype(np.float32)
                offer = gateway.infer(x, key=key)
                assert offer.status_code == 428
                prices.append(offer.json()["bits"])
                found.append(truth(x).mean())
                exact.append(item_units(policy, truth(x)).mean())
            assert len(set(prices[-24:])) == 1  # asking again, about whatever, shows the same
            high += [value >= np.median(found) for value in found]
            leaks += found
            paid = gateway.infer(x, key=key, proof=solve(offer.json()["challenge"]))
            assert paid.status_code in (200, 428)
        assert len(set(prices)) > 1  # prices do move, with the account's past and the number of items
        assert abs(roc_auc_score(high, prices) - 0.5) < 0.03
        # Control: a price made of the query itself would be found out.
        assert roc_auc_score(high, exact) > 0.8


def test_what_is_answered_is_billed_by_what_it_leaks(tmp_path):
    with serving(tmp_path) as gateway:
        estimator = with_estimator(gateway, Watched()).gateway.settler._estimator
        key = gateway.open_account(rows(1, seed=5))
        gateway.settled()
        assert estimator.calls == 1
        query = gateway.store.queries(limit=1)[0]
        assert query.log_q[0] == pytest.approx(truth(rows(1, seed=5))[0], rel=1e-6)
        assert query.price > 0
        assert key


def test_an_estimator_that_fails_costs_the_95th_percentile(tmp_path):
    class Broken(Watched):
        def log_q(self, x, *, scores=None):
            msg = "no memory"
            raise RuntimeError(msg)

    with serving(tmp_path) as gateway:
        with_estimator(gateway, Broken())
        gateway.open_account()
        gateway.settled()
        query = gateway.store.queries(limit=1)[0]
        assert query.status == "settled"
        assert query.price == pytest.approx(gateway.gateway.policy.pricing.p95_units)


def test_a_full_settlement_queue_bills_at_once(tmp_path):
    with serving(tmp_path) as gateway:
        gateway.gateway.settler._capacity = 0
        gateway.open_account()
        query = gateway.store.queries(limit=1)[0]
        assert query.status == "settled"


def test_closing_settles_what_was_answered(tmp_path):
    class Slow(Watched):
        def log_q(self, x, *, scores=None):
            time.sleep(0.1)
            return super().log_q(x)

    url = f"sqlite:///{tmp_path}/gateway.db"
    with serving(tmp_path, store=url) as gateway:
        with_estimator(gateway, Slow())
        key = gateway.open_account()
        for i in range(3):
            assert gateway.infer(rows(1, seed=i), key=key).status_code == 200
        assert gateway.gateway.settler.waiting
    from assay.gateway.store.sql import SqlStore

    store = SqlStore(url)
    assert {query.status for query in store.queries()} == {"settled"}
    assert len(store.queries()) == 4
    store.close()


# --- setup ----------------------------------------------------------------------------------------
def test_policies_only_lead_forward(tmp_path):
    from assay.errors import InvalidInput

    with serving(tmp_path, make_policy(version=2)) as gateway:
        old = ask(gateway, rows(1))["challenge"]
    with serving(tmp_path, make_policy(version=3)) as gateway:
        # What the policy before has offered is still honoured.
        assert gateway.infer(rows(1), proof=solve(old)).status_code == 200
    for policy in (
        make_policy(version=2),
        make_policy(version=3, beta=2.0),
        make_policy(version=4, base_units=0.1),
    ):
        with pytest.raises(InvalidInput), serving(tmp_path, policy):
            pass


def test_answer_defences_change_what_is_shown_not_what_is_billed(tmp_path):
    from assay.gateway.policy import Defence

    policy = make_policy(answers=(Defence(name="top-1"),))
    with serving(tmp_path, policy, Counted()) as gateway:
        x = rows(2)
        proof = solve(ask(gateway, x)["challenge"])
        shown = np.array(gateway.infer(x, proof=proof).json()["outputs"][0]["data"]).reshape(2, CLASSES)
        logits = x.astype(np.float64) @ gateway.upstream.weight
        assert np.array_equal(shown.argmax(1), logits.argmax(1))
        # The largest score and nothing else.
        assert (shown > 0).sum(1).tolist() == [1, 1]
        gateway.settled()
        assert gateway.store.queries(limit=1)[0].status == "settled"


def test_exact_timing_prices_the_query_itself_but_only_for_who_has_paid_ahead(tmp_path):
    from assay.errors import InvalidInput
    from assay.gateway.server.quotes import Quotes

    with pytest.raises(InvalidInput, match="exact timing needs"), serving(tmp_path, exact()):
        pass
    estimator = Watched()
    policy = exact()
    with serving(tmp_path, make_policy(version=2)) as gateway:
        gateway.gateway.quotes, gateway.gateway.policy = Quotes(estimator), policy
        x = rows(1, seed=3)
        asked = ask(gateway, x)
        assert estimator.calls == 0
        key = asked["account_key"]
        assert gateway.infer(x, proof=solve(asked["challenge"])).status_code == 200
        assert estimator.calls == 1
        for i in range(10):
            ask(gateway, rows(1, seed=i), key=key)
        assert estimator.calls == 1  # who has not paid ahead learns nothing and costs nothing
        bank = {"purpose": "credit", "units": 40}
        headers = {"Authorization": f"Bearer {key}"}
        challenge = gateway.post("/pow/v1/challenge", json=bank, headers=headers).json()["challenge"]
        gateway.post("/pow/v1/redeem", json={"proof": solve(challenge)})
        gateway.settled()
        before = gateway.store.queries(limit=1)[0].id
        y = rows(1, seed=4)
        assert gateway.infer(y, key=key).status_code == 200
        gateway.settled()
        assert estimator.calls == 2
        query = gateway.store.queries(limit=1)[0]
        assert query.id != before
        assert query.log_q[0] == pytest.approx(truth(y)[0], rel=1e-6)
        assert query.reserved == pytest.approx(query.price, rel=1e-4) or query.reserved == 0


def exact():
    return make_policy(timing="exact")
