"""What an account is told about its customer's volume."""

import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import make_policy, rows, serving

from assay.gateway.account import AccountState
from assay.gateway.policy import Policy, Pricing, Tier, VolumePricing
from assay.gateway.pricing.standing import standing


def books(gateway, key):
    answer = gateway.get("/pow/v1/account", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(gateway, key, seed):
    return gateway.infer(rows(4, seed), key=key)


def test_an_account_sees_what_its_customer_was_answered(tmp_path):
    volume = VolumePricing(free_items=5.0, limit_items=20.0, half_life_days=30.0)
    policy = make_policy(volume=volume, deposit_units=300.0, free_units=300.0, debt_cap_units=1e4)
    with serving(tmp_path, policy) as gateway:
        one, two = gateway.open_account(rows(4, 1)), gateway.open_account(rows(4, 2))
        gateway.settled()
        alone = books(gateway, one)["volume"]
        assert alone == {
            "items": 4, "factor": 1.0, "free_items": 5.0, "limit_items": 20.0, "half_life_days": 30.0,
        }  # fmt: skip
        for key in (one, two):
            gateway.store.set_customer(books(gateway, key)["account"], "acme", now=gateway.gateway.clock())
        # What counted for single accounts is not the customer's: that begins with the next answer.
        for seed, key in enumerate((one, two, one), 3):
            assert ask(gateway, key, seed).status_code == 200
        gateway.settled()
        shown = [books(gateway, key)["volume"] for key in (one, two)]
        assert shown[0] == shown[1]
        assert shown[0]["items"] == 12
        assert shown[0]["factor"] == pytest.approx(13 / 5, rel=1e-3)
        assert "acme" not in str(books(gateway, one))


def test_answers_that_find_the_queue_of_bills_full_count_as_well(tmp_path, monkeypatch):
    policy = make_policy(
        volume=VolumePricing(free_items=50.0), deposit_units=300.0, free_units=300.0, debt_cap_units=1e4
    )
    with serving(tmp_path, policy) as gateway:
        key = gateway.open_account(rows(4, 1))
        gateway.settled()
        monkeypatch.setattr(gateway.gateway.settler, "submit", lambda _served: False)
        assert ask(gateway, key, 2).status_code == 200
        assert books(gateway, key)["volume"]["items"] == 8


def test_nothing_is_said_where_nothing_depends_on_it(tmp_path):
    with serving(tmp_path) as gateway:
        assert books(gateway, gateway.open_account())["volume"] is None
        schema = gateway.get("/openapi.json").json()["components"]["schemas"]
        assert "volume" in schema["AccountView"]["properties"]
        assert set(schema["VolumeView"]["required"]) >= {"items", "factor", "limit_items"}


def test_a_limit_is_that_of_the_tier_and_the_published_rule_has_no_factor():
    volume = VolumePricing(free_items=10.0, limit_items=100.0)
    tiers = {"standard": Tier(), "known": Tier(budget_factor=2.0)}
    policy = Policy(pricing=Pricing(volume=volume), tiers=tiers)
    found = standing(policy, AccountState("a", tier="known", volume=199.5))
    assert (found.limit_items, found.full, found.factor) == (200.0, True, pytest.approx(20.05))
    assert not standing(policy, AccountState("a", tier="known", volume=199.0)).full
    paper = Policy(pricing=Pricing(volume=volume, mode="paper"))
    assert standing(paper, AccountState("a", volume=50.0)).factor == 1.0
    assert standing(policy, AccountState("a")) is None
