from __future__ import annotations

import pytest

from assay.gateway.account import AccountState
from assay.gateway.admission import by_tier, request_terms
from assay.gateway.policy import Policy
from assay.gateway.policy_parts import Budgets, Pricing, Tier
from assay.gateway.pricing import Usage, open_rule

BUSY = Usage(queries=10, work=10.0, seconds_left=100.0, idle_seconds=0.0)


def test_a_deposit_is_asked_for_once_and_the_rest_of_it_is_payment():
    terms = request_terms(Policy())
    new = AccountState("a")
    asked = terms.decide(new, Usage(), 1)
    assert (asked.action, asked.deposit) == ("price", True)
    assert asked.units >= terms.deposit_units > 0.0
    assert terms.deposit_part(new, terms.deposit_units + 7.0) == terms.deposit_units
    entered = AccountState("a", deposited=terms.deposit_units)
    assert terms.deposit_part(entered, 7.0) == 0.0
    assert terms.decide(entered, Usage(), 1).action == "serve"


def test_lagged_terms_look_at_the_number_of_items_only():
    terms = request_terms(Policy())
    state = AccountState("a", deposited=128.0)
    assert terms.reserve(state, 4) == 4 * terms.reserve(state, 1)
    assert terms.quote is None


def test_exact_terms_ask_for_the_quoted_price():
    policy = Policy(pricing=Pricing(deposit_units=0.0, timing="exact"))
    terms = request_terms(policy, open_rule(policy), quote=lambda state: 40.0 + state.debt)
    state = AccountState("a", debt=1.0)
    asked = terms.decide(state, Usage(), 2)
    assert (asked.action, asked.units) == ("price", 42.0)
    assert terms.reserve(state, 2) == 41.0


def test_banked_credit_is_bounded_by_the_policy():
    pricing = Pricing()
    terms = request_terms(Policy(pricing=pricing))
    assert pricing.deposit_units < terms.max_credit_units < float("inf")


@pytest.mark.parametrize(
    ("tier", "action"), [("standard", None), ("barred", "deny"), ("throttled", "throttle")]
)
def test_tiers_that_detectors_give(tier, action):
    found = by_tier(AccountState("a", tier=tier), BUSY, 1, 1.0)
    assert (found and found.action) == action
    terms = request_terms(Policy(tiers={"standard": Tier(), tier: Tier()}))
    assert terms.decide(AccountState("a", tier=tier, deposited=128.0), BUSY, 1).action == (action or "serve")


@pytest.mark.parametrize(
    ("limits", "state", "action"),
    [
        ({}, AccountState("a", epsilon=1e9), "serve"),
        ({"epsilon": 2.0}, AccountState("a", epsilon=2.0), "deny"),
        ({"epsilon": 2.0}, AccountState("a", epsilon=1.0), "serve"),
        ({"epsilon": 2.0, "throttle_at": 0.5}, AccountState("a", epsilon=1.5), "throttle"),
        ({"queries_per_day": 11}, AccountState("a"), "deny"),
        ({"queries_per_day": 13}, AccountState("a"), "serve"),
        ({"work_per_day": 10.0}, AccountState("a"), "deny"),
    ],
)
def test_totals_of_the_policy_count(limits, state, action):
    policy = Policy(
        budgets=Budgets(**({"throttle_at": 1.0} | limits)),
        pricing=Pricing(deposit_units=0.0),
    )
    assert request_terms(policy).decide(state, BUSY, 2).action == action
