"""Case P9: a price must not tell an attacker how the teachers voted."""

import numpy as np
import pytest
from scipy.stats import rankdata

from assay.gateway.account import AccountState
from assay.gateway.policy import Policy, Pricing
from assay.gateway.pricing import draw, make_offer, open_rule

QUERIES = 4000


def auroc(score, positive):
    ranks, n = rankdata(score), int(positive.sum())
    return (ranks[positive].sum() - n * (n + 1) / 2) / (n * (positive.size - n))


def offers(policy, log_q):
    """Return the difficulty offered before each of one account's queries, 0 where none was due."""
    rule, state, bits = open_rule(policy), AccountState("a", queries=1), []
    for value in log_q:
        exact = policy.pricing.timing == "exact"
        quoted = rule.quote(state, [value]).total if exact else None
        due, offered = rule.due(state, 1, quoted), 0.0
        if due:
            offer = make_offer(policy, due, draw(b"secret", state))
            state, offered = rule.accept(state, offer.units), offer.bits
        bits.append(offered)
        state, _ = rule.settle(state, [value])
    return np.array(bits)


@pytest.fixture(scope="module")
def log_q():
    return -np.random.default_rng(3).gamma(1.0, 12.0, QUERIES)


def test_lagged_offers_say_nothing_about_the_query_they_are_for(log_q):
    bits = offers(Policy(), log_q)
    assert np.count_nonzero(bits) > 200
    assert auroc(bits, log_q >= np.median(log_q)) == pytest.approx(0.5, abs=0.03)


def test_even_item_by_item_lagged_offers_say_nothing_about_their_own_query(log_q):
    bits = offers(Policy(pricing=Pricing(free_units=0.0, billing_items=1)), log_q)
    assert np.mean(bits > 0) > 0.8
    assert auroc(bits, log_q >= np.median(log_q)) == pytest.approx(0.5, abs=0.03)


def test_exact_offers_are_the_oracle_that_lagging_removes(log_q):
    bits = offers(Policy(pricing=Pricing(timing="exact", free_units=0.0)), log_q)
    assert auroc(bits, log_q >= np.median(log_q)) > 0.75


def test_billing_in_groups_hides_the_query_before_as_well(log_q):
    before = (log_q >= np.median(log_q))[:-1]
    shown = offers(Policy(pricing=Pricing(free_units=0.0, billing_items=1)), log_q)[1:]
    hidden = offers(Policy(), log_q)[1:]
    assert auroc(shown, before) > 0.75
    assert auroc(hidden, before) == pytest.approx(0.5, abs=0.03)
