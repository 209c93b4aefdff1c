"""Nobody is asked for work that is refused when it is redeemed."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from listening import listening
from serving import make_policy, rows, serving, solve

from assay.gateway.client import Client

LIMIT = 64.0  # four times deposit_units and debt_cap_units of the test's policy


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.delenv("ASSAY_API_TOKEN", raising=False)


def bank(gateway, key, units):
    headers = {"Authorization": f"Bearer {key}"}
    return gateway.post("/pow/v1/challenge", json={"purpose": "credit", "units": units}, headers=headers)


def test_what_is_asked_for_as_credit_always_fits(tmp_path):
    with serving(tmp_path) as gateway:
        assert gateway.get("/pow/v1/policy").json()["max_credit_units"] == LIMIT
        key, rounds, credit = gateway.open_account(), 0, 0.0
        gateway.settled()
        while (asked := bank(gateway, key, 1000.0)).status_code == 200:
            done = gateway.post("/pow/v1/redeem", json={"proof": solve(asked.json()["challenge"])})
            assert done.status_code == 200, done.text
            rounds, credit = rounds + 1, done.json()["credit_units"]
            assert credit <= LIMIT
            assert rounds < 30
        refused = asked.json()
        assert asked.status_code == 429
        assert "as much credit as it may" in refused["detail"]
        assert "challenge" not in refused
        # Full but for less than the smallest puzzle.
        assert credit > LIMIT - 2.0**6 / 32.0 - 0.01
        # Work that a query needs is another matter.
        assert gateway.infer(rows(1), key=key).status_code == 200


def test_of_two_challenges_at_once_the_second_waits_until_it_fits(tmp_path):
    with serving(tmp_path, make_policy(billing_items=8)) as gateway:
        key = gateway.open_account()
        gateway.settled()
        tokens = [bank(gateway, key, units).json()["challenge"] for units in (LIMIT, 20.0)]
        done = [gateway.post("/pow/v1/redeem", json={"proof": solve(token)}).status_code for token in tokens]
        assert done == [200, 429]
        # It stays unclaimed and is taken once there is room again.
        for i in range(3):
            assert gateway.infer(rows(8, seed=i), key=key).status_code == 200
            gateway.settled()
        again = gateway.post("/pow/v1/redeem", json={"proof": solve(tokens[1])})
        assert again.status_code == 200, again.text


def test_an_account_without_a_limit_may_bank_anything(tmp_path):
    policy = make_policy(deposit_units=0.0, debt_cap_units=0.0, free_units=0.0, reserve_units=0.0)
    with serving(tmp_path, policy) as gateway:
        assert gateway.get("/pow/v1/policy").json()["max_credit_units"] is None
        opened = gateway.post("/pow/v1/account").json()["account_key"]
        assert bank(gateway, opened, 1e6).json()["price_units"] == 2.0**16 / 32.0


def test_the_client_banks_what_fits_and_says_so(tmp_path):
    with listening(tmp_path) as (url, _), Client(url, workers=1) as client:
        some = client.bank(20)
        assert not some.full
        receipt = client.bank(10_000)
        assert receipt.full
        assert LIMIT - 2.1 < receipt.credit_units <= LIMIT
        before = client.paid.challenges
        again = client.bank(10_000)
        assert (again.full, again.units, client.paid.challenges) == (True, 0.0, before)
        assert client.bank(0).units == 0.0


def test_banking_takes_several_pieces_where_one_puzzle_is_not_enough(tmp_path):
    policy = make_policy(puzzle={"max_bits": 9.0})  # 16 units
    with listening(tmp_path, policy) as (url, _), Client(url, workers=1) as client:
        receipt = client.bank(50)
        assert receipt.credit_units >= 45
        assert client.paid.challenges >= 4
