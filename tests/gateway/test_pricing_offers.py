import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.policy import Budgets, Policy, Puzzle, Tier
from assay.gateway.pricing import Usage, decide, draw, make_offer, open_rule
from assay.gateway.pricing.offers import offered_bits

POLICY = Policy()
RULE = open_rule(POLICY)
KNOWN = AccountState("a", queries=10, deposited=128.0)


@given(st.floats(1.0, 16_000.0))
def test_rounding_is_unbiased(units):
    uniform = (np.arange(20_000) + 0.5) / 20_000
    bits = offered_bits(POLICY, np.full(uniform.size, units), uniform)
    assert np.mean(2.0**bits) / POLICY.pricing.hashes_per_unit == pytest.approx(units, rel=1e-4)
    assert np.unique(bits).size <= 2
    np.testing.assert_array_equal(bits * 4, np.round(bits * 4))


def test_whole_bits_would_lose_work():
    units = 2.0 ** np.random.default_rng(0).uniform(0.0, 10.0, 20_000)
    whole = 2.0 ** np.floor(np.log2(units * 4096)) / 4096
    assert np.mean(whole / units) == pytest.approx(0.721, abs=0.01)


@given(st.floats(0.0, 1e12), st.floats(0.0, 1.0, exclude_max=True))
def test_difficulty_stays_in_its_range_and_the_offer_says_what_it_is_worth(units, uniform):
    offer = make_offer(POLICY, units, uniform)
    assert POLICY.puzzle.min_bits <= offer.bits <= POLICY.puzzle.max_bits
    assert offer.units == 2.0**offer.bits / POLICY.pricing.hashes_per_unit
    assert offer.seconds == pytest.approx(2.0**offer.bits / 1e6)
    assert offer.k == 16


def test_a_range_that_is_no_multiple_of_the_step_keeps_its_ceiling():
    policy = Policy(puzzle=Puzzle(min_bits=12.0, max_bits=13.1))
    assert offered_bits(policy, [1e9, 2.1], [0.0, 0.0]).tolist() == [13.1, 13.1]


@pytest.mark.parametrize("units", [-1.0, float("nan"), float("inf")])
def test_bad_amounts_are_refused(units):
    with pytest.raises(InvalidInput):
        make_offer(POLICY, units, 0.5)


@pytest.mark.parametrize("uniform", [-0.1, 1.0])
def test_bad_draws_are_refused(uniform):
    with pytest.raises(InvalidInput):
        make_offer(POLICY, 1.0, uniform)


def test_asking_again_gives_the_same_offer_until_the_ledger_moves():
    same = [draw(b"secret", KNOWN) for _ in range(5)]
    assert len(set(same)) == 1
    assert draw(b"secret", KNOWN.charge(1.0)) != same[0]
    assert draw(b"other", KNOWN) != same[0]


def test_draws_are_uniform():
    draws = [draw(b"secret", AccountState(str(i))) for i in range(4000)]
    assert 0.0 <= min(draws) < max(draws) < 1.0
    counts, _ = np.histogram(draws, bins=10, range=(0.0, 1.0))
    assert counts.min() > 330
    assert counts.max() < 470


def test_a_new_account_pays_deposit_and_first_request_together():
    decision = decide(RULE, POLICY, AccountState("new"), 20)
    assert (decision.action, decision.deposit, decision.units) == ("price", True, 128.0 + 40.0)


def test_known_accounts_are_served_within_the_free_units():
    assert decide(RULE, POLICY, KNOWN, 8).action == "serve"
    assert decide(RULE, POLICY, KNOWN, 9).units == 18.0


def test_too_much_in_flight_is_slowed():
    decision = decide(RULE, POLICY, AccountState("a", queries=1, reserved=127.0), 2)
    assert (decision.action, decision.retry_after) == ("throttle", 1.0)


def budgeted(**changes):
    return Policy(budgets=Budgets(throttle_at=0.5, throttle_hz=2.0, **changes))


def test_a_spent_privacy_budget_is_final():
    policy = budgeted(epsilon=4.0)
    spent = AccountState("a", queries=1, epsilon=4.0)
    decision = decide(RULE, policy, spent, 1)
    assert (decision.action, decision.retry_after) == ("deny", None)


def test_daily_budgets_end_with_the_day():
    policy = budgeted(queries_per_day=100, work_per_day=500.0)
    full = decide(RULE, policy, KNOWN, 1, usage=Usage(queries=100, seconds_left=3600.0))
    assert (full.action, full.retry_after) == ("deny", 3600.0)
    worked = decide(RULE, policy, KNOWN, 1, usage=Usage(work=500.0, seconds_left=60.0))
    assert (worked.action, worked.retry_after) == ("deny", 60.0)
    assert decide(RULE, policy, KNOWN, 1, usage=Usage(queries=40)).action == "serve"


def test_close_to_a_limit_the_account_is_slowed():
    policy = budgeted(queries_per_day=100)
    decision = decide(RULE, policy, KNOWN, 4, usage=Usage(queries=60, idle_seconds=0.5))
    assert (decision.action, decision.retry_after) == ("throttle", 1.5)
    assert decide(RULE, policy, KNOWN, 4, usage=Usage(queries=60, idle_seconds=3.0)).action == "serve"


def test_tiers_widen_budgets():
    policy = budgeted(epsilon=4.0).model_copy(
        update={"tiers": {"standard": Tier(), "partner": Tier(budget_factor=10.0)}}
    )
    partner = AccountState("a", tier="partner", queries=1, epsilon=4.0)
    assert decide(RULE, policy, partner, 1).action == "serve"


def test_a_request_has_items():
    with pytest.raises(InvalidInput):
        decide(RULE, POLICY, KNOWN, 0)
