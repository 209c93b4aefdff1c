import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.policy import Policy, Pricing, Puzzle, VolumePricing, check_step, parse_policy, save_policy
from assay.gateway.pricing import AdditiveRule, decide
from assay.gateway.pricing.volume import decayed, free_items, mean_factor, seconds_until, volume_factor
from assay.gateway.simulation import volume_costs

VOLUME = VolumePricing(free_items=100.0, power=1.0, max_factor=20.0, half_life_days=2.0)
DAY = 86_400.0


def policy(version=1, volume=VOLUME, **pricing):
    return Policy(version=version, pricing=Pricing(volume=volume, **pricing))


def bill(rule, counts, *, volume=0.0, log_q=-157.8):
    """Answer requests of so many items; return the account and its prices."""
    state, units = AccountState("a", deposited=128.0, volume=volume), []
    for count in counts:
        state, settlement = rule.settle(state, np.full(count, log_q))
        units.append(settlement.units)
    return state, np.concatenate(units)


def test_the_bill_is_convex_and_does_not_depend_on_how_requests_are_cut():
    rule = AdditiveRule(policy())
    state, units = bill(rule, [600])
    _, cut = bill(rule, [64] * 9 + [24])
    assert np.allclose(units, cut)
    assert np.all(np.diff(units) >= -1e-12)
    assert units[0] == units[99] == pytest.approx(0.5)
    assert units[299] == pytest.approx(3 * units[0])
    assert state.volume == 600.0
    # Ten times the free items cost (1 + sum of v / free) = about 50 times, not ten.
    assert bill(rule, [1000])[1].sum() / bill(rule, [100])[1].sum() == pytest.approx(50.5, rel=0.02)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=12))
@settings(max_examples=30, deadline=None)
def test_accounts_of_one_group_pay_what_one_account_pays(sizes):
    rule = AdditiveRule(policy())
    _, one = bill(rule, sizes)
    counted, units = 0.0, []
    for size in sizes:
        after, found = bill(rule, [size], volume=counted)
        counted = after.volume
        units.append(found)
    assert np.concatenate(units) == pytest.approx(one)


def test_the_factor_has_a_ceiling_and_multiplies_with_the_alarm():
    rule = AdditiveRule(policy())
    assert bill(rule, [1], volume=1e12)[1][0] == pytest.approx(0.5 * 20.0)
    alarmed = AccountState("a", deposited=128.0, volume=300.0, cusum=11.0)
    _, settlement = rule.settle(alarmed, [-157.8])
    calm = rule.quote(AccountState("a", deposited=128.0, cusum=11.0, volume=0.0), [-157.8])
    assert settlement.units[0] / calm.units[0] == pytest.approx(301 / 100)


def test_repeats_neither_count_nor_rise():
    rule = AdditiveRule(policy())
    state = AccountState("a", deposited=128.0, volume=500.0)
    after, settlement = rule.settle(state, [-1.0, -1.0, -1.0], np.array([True, False, True]))
    assert after.volume == 501.0
    assert settlement.units[0] == settlement.units[2] == pytest.approx(0.5)
    assert settlement.units[1] > 5.0


def test_what_is_held_and_due_rises_before_it_is_answered():
    rule = AdditiveRule(policy())
    low, high = (AccountState("a", deposited=128.0, volume=v) for v in (0.0, 1000.0))
    assert rule.reserve(high, 8) == pytest.approx(rule.reserve(low, 8) * 10.08)
    assert rule.due(high, 8) > rule.due(low, 8) == 0.0
    # Items alone are always let in, however dear they are.
    assert rule.fits(high, 64)


def test_without_groups_an_accounts_own_count_stands_for_the_volume():
    rule = AdditiveRule(policy())
    state = AccountState("a", deposited=128.0, queries=399)
    after, settlement = rule.settle(state, [-157.8])
    assert settlement.units[0] == pytest.approx(0.5 * 4.0)
    assert (after.volume, after.counted) == (None, 400.0)


def test_switched_off_it_changes_nothing():
    old, new = AdditiveRule(Policy()), AdditiveRule(policy(volume=VolumePricing()))
    for volume in (None, 1e9):
        state = AccountState("a", deposited=128.0, queries=10**6, volume=volume)
        assert new.settle(state, [-1.0, -90.0])[1].units == pytest.approx(
            old.settle(state, [-1.0, -90.0])[1].units
        )
        assert new.reserve(state, 4) == old.reserve(state, 4)


def test_old_items_are_forgotten_by_halves():
    assert decayed(VOLUME, 80.0, 2 * DAY) == pytest.approx(40.0)
    assert decayed(VOLUME, 80.0, -5.0) == 80.0
    wait = seconds_until(VOLUME, 800.0, 100.0)
    assert decayed(VOLUME, 800.0, wait) == pytest.approx(100.0)
    assert seconds_until(VOLUME, 1.0, 0.0) is None
    # Who asks steadily stays at the free items, and never above.
    counted, each = 0.0, 50.0
    limit = free_items(VOLUME, each)
    for _ in range(400):
        counted = decayed(VOLUME, counted, DAY / 24) + each / 24
    assert 0.97 * limit < counted < 1.02 * limit
    with pytest.raises(InvalidInput):
        free_items(VOLUME, 0.0)


def test_a_limit_by_volume_is_a_refusal_with_the_time_to_wait():
    limited = VolumePricing(free_items=100.0, half_life_days=2.0, limit_items=400.0)
    terms = policy(volume=limited)
    rule = AdditiveRule(terms)
    state = AccountState("a", deposited=128.0, volume=790.0)
    refused = decide(rule, terms, state, 5)
    assert (refused.action, refused.retry_after) == ("deny", pytest.approx(2 * DAY))
    assert decide(rule, terms, AccountState("a", deposited=128.0, volume=350.0), 5).action != "deny"
    near = decide(rule, terms, AccountState("a", deposited=128.0, volume=390.0), 5)
    assert near.action in ("price", "throttle")
    # Its own count is never forgotten, so there is no time to come back at.
    own = decide(rule, terms, AccountState("a", deposited=128.0, queries=400), 1)
    assert (own.action, own.retry_after) == ("deny", None)


def test_simulated_means_agree_with_bills():
    rule = AdditiveRule(policy())
    _, units = bill(rule, [1500])
    assert mean_factor(VOLUME, 1500) == pytest.approx(units.mean() / 0.5, rel=0.01)
    counted, paid = 0.0, []
    for _ in range(2000):  # the same, over twenty days
        counted = decayed(VOLUME, counted, 20 * DAY / 2000) + 0.75
        paid.append(float(volume_factor(VOLUME, counted)))
    assert mean_factor(VOLUME, 1500, days=20.0) == pytest.approx(np.mean(paid), rel=0.02)
    with pytest.raises(InvalidInput):
        mean_factor(VOLUME, 0)


def test_thefts_by_volume_are_as_cheap_as_customers_are():
    costs = {row.groups: row.ratio for row in volume_costs(policy(), 10_000, (1, 4, 20, 100, 1000))}
    assert costs[1] > costs[4] > 5.0
    assert costs[100] < 2.5
    assert costs[1000] > costs[100]  # deposits
    flat = volume_costs(Policy(), 10_000, (1,))[0].ratio
    assert flat == pytest.approx(1.0, abs=0.02)
    with pytest.raises(InvalidInput):
        volume_costs(policy(), 3, (4,))


def test_a_policy_keeps_it_and_no_step_halves_it(tmp_path):
    made = policy()
    assert parse_policy(save_policy(made, tmp_path / "p.toml").read_text()) == made
    check_step(made, policy(version=2, volume=VolumePricing(free_items=190.0, max_factor=20.0)))
    check_step(Policy(), policy(version=2))
    for weaker in (
        VolumePricing(),
        VolumePricing(free_items=1000.0),
        VolumePricing(free_items=100.0, max_factor=5.0),
    ):
        with pytest.raises(InvalidInput, match="by volume"):
            check_step(made, policy(version=2, volume=weaker))


@pytest.mark.parametrize(
    "wrong", [{"free_items": -1.0}, {"power": 0.0}, {"max_factor": 0.5}, {"limit_items": 0.0}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValidationError):
        VolumePricing(**wrong)
    with pytest.raises(InvalidInput):
        AccountState("a", volume=-1.0)
    assert math.isfinite(float(volume_factor(VolumePricing(free_items=1e-9, power=8.0), 1e300)))


def test_hashes_of_two_kinds_of_puzzles_are_not_compared():
    old = Policy()
    hard = Puzzle(alg="scrypt", k=2, min_bits=1.0, max_bits=10.0)
    new = policy(version=2, volume=VolumePricing(), hashes_per_unit=0.01).model_copy(update={"puzzle": hard})
    check_step(old, new)
    with pytest.raises(InvalidInput, match="twofold"):
        check_step(old, policy(version=2, volume=VolumePricing(), hashes_per_unit=0.01))
    calmer = new.model_copy(update={"version": 3, "pricing": new.pricing.model_copy(update={"eta": 0.1})})
    with pytest.raises(InvalidInput, match="eta"):
        check_step(old, calmer)
