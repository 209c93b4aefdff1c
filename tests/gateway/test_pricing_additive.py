import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.policy import Policy, Pricing, Tier
from assay.gateway.pricing import AdditiveRule, Rule, item_units, open_rule
from assay.gateway.pricing.cusum import increments, multiplier, walk
from assay.privacy import renyi, to_epsilon

NAN = float("nan")
PRICING = Pricing(llr_edges=(-50.0, -5.0), llr_values=(-2.5, -0.5, 1.5), threshold=6.0, up=4.0, down=2.0)
POLICY = Policy(pricing=PRICING)
RULE = AdditiveRule(POLICY)
streams = st.lists(st.floats(-300.0, 0.0), min_size=1, max_size=80)


def played(log_q, sizes, rule=RULE):
    state, start, units = AccountState("a", deposited=128.0), 0, []
    for size in sizes:
        state, settlement = rule.settle(state, log_q[start : start + size])
        units.extend(settlement.units.tolist())
        start += size
    return state, np.array(units)


def test_it_is_a_rule():
    assert isinstance(RULE, Rule)
    assert open_rule(POLICY) == RULE


@given(streams, st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_how_a_stream_is_cut_into_requests_changes_nothing(log_q, size):
    whole, units = played(log_q, [len(log_q)])
    parts, cut = played(log_q, [size] * -(-len(log_q) // size))
    np.testing.assert_allclose(cut, units, rtol=1e-12)
    assert parts.cusum == pytest.approx(whole.cusum, abs=1e-9)
    assert parts.epsilon == pytest.approx(whole.epsilon, rel=1e-9)
    assert parts.queries == whole.queries == len(log_q)


@given(streams, st.integers(0, 80))
@settings(max_examples=40, deadline=None)
def test_splitting_accounts_never_saves_the_additive_price(log_q, place):
    _, one = played(log_q, [len(log_q)])
    floor = item_units(POLICY, log_q).sum()
    halves = [half for half in (log_q[:place], log_q[place:]) if half]
    assert sum(played(half, [len(half)])[1].sum() for half in halves) >= floor - 1e-9
    assert one.sum() >= floor - 1e-9


@given(streams, streams)
@settings(max_examples=40, deadline=None)
def test_padding_never_lowers_a_bill_below_the_additive_price(attack, pads):
    mixed = [value for pair in zip(attack, pads, strict=False) for value in pair]
    useful = attack[: len(mixed) // 2]
    assert played(mixed, [len(mixed)])[1].sum() >= item_units(POLICY, useful).sum()


def test_prices_rise_with_the_flip_probability_and_are_bounded():
    units = item_units(POLICY, np.linspace(-300.0, 0.0, 500))
    assert np.all(np.diff(units) >= -1e-12)
    assert units[0] == pytest.approx(PRICING.base_units)
    assert units[-1] == pytest.approx(PRICING.item_ceiling)


def test_a_user_cheaper_than_average_only_pays_less():
    _, easy = played([-157.8] * 2000, [64] * 32)
    assert easy.sum() == pytest.approx(2000 * PRICING.base_units)


def test_the_price_formula():
    log_q = np.array([-28.0, -3.0])
    cost = renyi(log_q, PRICING.sigma, [PRICING.alpha0])[:, 0]
    expected = PRICING.base_units * (1 + PRICING.beta * cost / PRICING.mean_cost)
    np.testing.assert_allclose(item_units(POLICY, log_q), expected, rtol=1e-3)


def test_the_sum_forgets_an_honest_past_and_is_capped():
    steps = np.r_[np.full(10_000, -2.0), np.full(4, 1.5)]
    assert walk(PRICING, steps)[-1] == 6.0
    assert walk(PRICING, np.full(10_000, 1.5))[-1] == PRICING.cusum_ceiling
    assert multiplier(PRICING, PRICING.cusum_ceiling) == PRICING.max_multiplier


def test_steps_are_clipped_and_bins_closed_on_the_left():
    assert increments(PRICING, [-60.0, -50.0, -5.0, NAN]).tolist() == [-2.0, -0.5, 1.5, 0.0]
    assert increments(Pricing(), [-1.0]).tolist() == [0.0]


def test_the_alarm_multiplies_and_is_flagged_once():
    state, settlement = RULE.settle(AccountState("a"), [-1.0] * 10)
    assert settlement.flags == ("alarm",)
    np.testing.assert_allclose(settlement.multiplier[3:6], np.exp([0.0, 1.5, 3.0]))
    assert settlement.multiplier[-1] == 50.0
    assert settlement.billed == pytest.approx(settlement.total)
    _, later = RULE.settle(state, [-1.0])
    assert later.flags == ()


def test_repeats_cost_the_base_price_and_buy_no_clean_record():
    state, _ = RULE.settle(AccountState("a"), [-1.0] * 4)
    after, settlement = RULE.settle(state, [-157.0] * 3, [True, True, True])
    assert after.cusum == state.cusum
    assert (after.rdp, after.epsilon) == (state.rdp, state.epsilon)
    assert settlement.units.tolist() == [0.5] * 3
    assert settlement.flags == ("duplicates",)
    clean, _ = RULE.settle(state, [-157.0] * 3)
    assert clean.cusum == 0.0


def test_without_a_score_the_honest_95th_percentile_is_charged_and_a_tie_accounted():
    state, settlement = RULE.settle(AccountState("a"), [NAN, NAN])
    assert settlement.units.tolist() == [PRICING.p95_units] * 2
    assert settlement.flags == ("unscored",)
    assert state.cusum == 0.0
    np.testing.assert_allclose(state.rdp, 2 * np.array(PRICING.orders) / PRICING.sigma**2, rtol=1e-9)


def test_the_privacy_account_is_the_composed_one():
    rng = np.random.default_rng(0)
    log_q = -rng.gamma(2.0, 10.0, 300)
    state, _ = played(log_q, [60] * 5)
    rdp = renyi(log_q, PRICING.sigma, PRICING.orders).sum(axis=0)
    np.testing.assert_allclose(state.rdp, rdp, rtol=1e-2)
    assert state.epsilon == pytest.approx(float(to_epsilon(rdp, PRICING.orders, 1e-5)[0]), rel=1e-2)


def test_a_change_of_orders_restarts_at_the_data_independent_bound():
    old = AccountState("a", queries=10, rdp=(0.1, 0.2))
    state, _ = RULE.settle(old, [])
    np.testing.assert_allclose(state.rdp, 10 * np.array(PRICING.orders) / 4.0, rtol=1e-12)


def test_tiers_scale_prices_deposits_and_reservations():
    policy = POLICY.model_copy(
        update={"tiers": {"standard": Tier(), "paid": Tier(price_factor=0.25, deposit_factor=0.0)}}
    )
    rule, state = AdditiveRule(policy), AccountState("a", tier="paid")
    assert rule.settle(state, [-157.0])[1].total == pytest.approx(0.125)
    assert rule.deposit_due(state) == 0.0
    assert rule.reserve(state, 4) == 2.0


def test_prices_are_billed_together():
    policy = Policy(pricing=Pricing(billing_items=8))
    rule = AdditiveRule(policy)
    state, settlement = rule.settle(AccountState("a"), [-1.0] * 7)
    assert (state.debt, state.pending_items, settlement.billed) == (0.0, 7, 0.0)
    state, settlement = rule.settle(state, [-1.0])
    assert (state.pending, state.pending_items) == (0.0, 0)
    assert state.debt == settlement.billed == pytest.approx(8 * 3.0)


def test_repeats_fill_no_bill_but_are_billed_in_the_end():
    rule = AdditiveRule(Policy(pricing=Pricing(billing_items=8)))
    state, _ = rule.settle(AccountState("a"), [-0.7])
    for _ in range(40):
        state, _ = rule.settle(state, [-0.7], [True])
    assert (state.debt, state.pending_items) == (0.0, 1)
    assert state.pending == pytest.approx(3.0 + 40 * 0.5)
    state, settlement = rule.settle(state, [-0.7] * 4, [True] * 4)
    assert state.debt == settlement.billed == pytest.approx(25.0)


def test_unbilled_items_are_held_at_the_reservation():
    rule = AdditiveRule(Policy(pricing=Pricing(free_units=0.0)))
    cheap, _ = rule.settle(AccountState("a"), [-157.0] * 3)
    dear, _ = rule.settle(AccountState("a"), [-0.7] * 3)
    assert rule.due(cheap, 1) == rule.due(dear, 1) == 4 * 2.0


def test_what_is_owed_and_held_is_due_beyond_the_free_units():
    assert RULE.due(AccountState("a"), 8) == 0.0
    assert RULE.due(AccountState("a"), 9) == 18.0
    assert RULE.due(AccountState("a", credit=10.0), 9) == 0.0
    assert RULE.due(AccountState("a", debt=100.0, reserved=4.0), 1) == 106.0
    assert RULE.due(AccountState("a", debt=10.0), 1, quoted=7.0) == 17.0


def test_an_alarmed_account_reserves_at_its_multiplier():
    calm, alarmed = AccountState("a"), AccountState("a", cusum=8.0)
    assert RULE.reserve(alarmed, 2) == pytest.approx(RULE.reserve(calm, 2) * np.exp(2.0))


def test_items_in_flight_are_capped_but_one_request_always_fits():
    assert RULE.fits(AccountState("a", reserved=100.0), 14)
    assert not RULE.fits(AccountState("a", reserved=100.0), 15)
    assert RULE.fits(AccountState("a", cusum=20.0), 64)


def test_the_deposit_is_paid_once_and_comes_back_with_quiet_items():
    state = AccountState("a")
    assert RULE.deposit_due(state) == 128.0
    state = RULE.accept(state, 130.0, deposit=True)
    assert (state.deposited, state.credit, state.work_paid) == (128.0, 2.0, 130.0)
    assert RULE.deposit_due(state) == 0.0
    for _ in range(50):
        state, _ = RULE.settle(state, [-157.0] * 50)
    assert state.released == pytest.approx(128.0)
    assert state.collateral == pytest.approx(0.0)
    loud, _ = RULE.settle(AccountState("b", deposited=128.0, cusum=20.0), [-1.0] * 50)
    assert loud.released == 0.0


def test_exact_timing_bills_at_once():
    rule = AdditiveRule(Policy(pricing=Pricing(timing="exact")))
    state, settlement = rule.settle(AccountState("a"), [-0.7])
    assert state.debt == settlement.billed == settlement.total
    assert rule.quote(AccountState("a"), [-0.7]).total == settlement.total


def test_books_balance():
    rng = np.random.default_rng(1)
    state, charged = AccountState("a", deposited=128.0, work_paid=128.0), 0.0
    for _ in range(300):
        due = RULE.due(state, 4)
        if due:
            state = RULE.accept(state, due)
        state, settlement = RULE.settle(state, -rng.gamma(2.0, 10.0, 4))
        charged += settlement.total
    held = state.collateral + state.balance
    assert state.work_paid == pytest.approx(charged - state.pending + held, rel=1e-9)
    assert min(state.debt, state.credit) == 0.0


@pytest.mark.parametrize(
    ("log_q", "duplicates"),
    [([0.5], None), ([[-1.0]], None), ([-1.0], [True, False]), ([-1.0], [0]), (-1.0, None)],
)
def test_bad_items_are_refused(log_q, duplicates):
    with pytest.raises(InvalidInput):
        RULE.settle(AccountState("a"), log_q, duplicates)


@pytest.mark.parametrize("units", [-1.0, NAN, float("inf")])
def test_no_work_is_minted(units):
    state = AccountState("a")
    for change in (state.pay, state.charge, state.refund, state.deposit, state.reserve, state.release):
        with pytest.raises(InvalidInput):
            change(units)
    with pytest.raises(InvalidInput):
        AccountState("a", credit=units)


def test_an_empty_settlement_changes_nothing():
    state = AccountState("a", queries=3, cusum=1.0, epsilon=0.5)
    after, settlement = RULE.settle(state, [])
    assert settlement.total == 0.0
    assert (after.queries, after.cusum, after.epsilon) == (3, 1.0, 0.5)
