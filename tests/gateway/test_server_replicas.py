"""Two replicas of the gateway that share a PostgreSQL store and a key file."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import Counted, as_json, ask, make_policy, rows, serving, solve


@pytest.fixture
def replicas(tmp_path, postgresql_url):
    policy = make_policy(limits={"account_concurrency": 64, "concurrency": 128})
    upstream = Counted()
    with (
        serving(tmp_path, policy, upstream, store=postgresql_url) as one,
        serving(tmp_path, policy, upstream, store=postgresql_url) as two,
    ):
        yield one, two


def together(replicas, bodies, proof=None, key=None):
    """Send requests to both at once; return the statuses."""

    async def share(gateway, own):
        return await asyncio.gather(*(ask(gateway.app, body, proof=proof, key=key) for body in own))

    jobs = [
        asyncio.run_coroutine_threadsafe(share(gateway, bodies[i::2]), gateway.loop)
        for i, gateway in enumerate(replicas)
    ]
    return [status for job in jobs for status, _, _ in job.result(60)]


def test_of_fifty_uses_of_one_proof_on_two_replicas_one_wins(replicas):
    one, two = replicas
    x = rows(1)
    proof = solve(one.infer(x).json()["challenge"]).encode()
    body = json.dumps(as_json(x)).encode()
    statuses = together(replicas, [body] * 50, proof=proof)
    assert sorted(statuses) == [200] + [409] * 49
    assert one.upstream.count == 1
    assert two.store.unbalanced() == []


def test_a_challenge_of_one_replica_is_good_at_the_other_once(replicas):
    one, two = replicas
    x = rows(2)
    asked = one.infer(x).json()
    proof = solve(asked["challenge"])
    assert two.infer(x, proof=proof).status_code == 200
    assert one.infer(x, proof=proof).status_code == 409
    assert one.infer(rows(1), key=asked["account_key"]).status_code == 200


def test_an_account_cannot_outrun_its_prices_on_two_replicas(replicas):
    key = replicas[0].open_account()
    for gateway in replicas:
        gateway.settled()
    bodies = [json.dumps(as_json(rows(1, seed=i))).encode() for i in range(40)]
    statuses = together(replicas, bodies, key=key)
    for gateway in replicas:
        gateway.settled()
    # Quick settlements make room again, but never for more than was free at once.
    assert set(statuses) <= {200, 428, 429}
    state = replicas[1].store.accounts(limit=1)[0][0].state
    assert state.reserved == 0
    assert state.debt <= replicas[0].gateway.policy.pricing.debt_cap_units
    assert replicas[0].store.unbalanced() == []
