import numpy as np
import pytest

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.policy import PaperPricing, Policy, Pricing
from assay.gateway.pricing import open_rule
from assay.gateway.pricing.paper import PaperRule, paper_bits, paper_expected, paper_seconds
from assay.gateway.pricing.regression import Band, Line, fit_band, fit_line, fit_robust

PAPER = PaperPricing()
POLICY = Policy(pricing=Pricing(mode="paper", sigma=10.0))
RULE = PaperRule(POLICY)

MNIST = [
    246.9064102, 501.2222743, 759.1511268, 1015.451783, 1275.014361,
    1534.452097, 1792.870967, 2047.178275, 2313.522305, 2576.077102,
]  # fmt: skip
CIFAR10 = [
    2761.955688, 5547.446369, 8330.487811, 11178.77536, 13983.3444,
    16796.26861, 19591.65255, 22378.06004, 25147.08036,
]  # fmt: skip
SECONDS = [
    0.000018, 0.000046, 0.00005, 0.000056, 0.000181, 0.000315, 0.000325, 0.000704,
    0.001079, 0.00348, 0.007472, 0.008756, 0.018955, 0.0496, 0.065657, 0.239012,
    0.489723, 0.549378, 1.474332, 2.927822, 4.340743, 8.519815, 15.106678, 23.196483,
    151.251428, 245.364584, 565.612546, 666.044603, 1069.022753, 1533.945173, 2832.509785, 2948.467908,
]  # fmt: skip


@pytest.mark.parametrize(
    ("totals", "slope", "intercept"),
    [(MNIST, 0.25866950, -16.497579), (CIFAR10, 2.80286937, -46.005626)],
)
def test_c1_expected_totals_of_honest_users(totals, slope, intercept):
    line = fit_line(1000.0 * np.arange(1, len(totals) + 1), totals)
    assert line.slope == pytest.approx(slope, abs=1e-7)
    assert line.intercept == pytest.approx(intercept, abs=1e-4)
    assert line.r_squared > 0.9999


def test_c2_bits_from_seconds():
    line = fit_line(np.log10(SECONDS), np.arange(1.0, 33.0))
    assert line.slope == pytest.approx(3.514290, abs=1e-5)
    assert line.intercept == pytest.approx(18.531751, abs=1e-5)
    assert line.r_squared == pytest.approx(0.99535, abs=1e-5)


@pytest.mark.parametrize(
    ("queries", "total", "seconds", "bits"),
    [
        (10_000, 2576.08, 1.0449, 18),
        (1000, 530.1, 8.5969, 21),
        (2000, 1060.2, 65.3355, 24),
        (10_000, 5301.0, 2948.468, 30),
        (10_000, 1882.6, 170.33, 26),
    ],
)
def test_c3_published_difficulty(queries, total, seconds, bits):
    wanted = paper_seconds(PAPER, queries, total)
    assert wanted == pytest.approx(seconds, rel=1e-4)
    assert paper_bits(PAPER, wanted) == bits


def test_c3_expected_total():
    assert paper_expected(PAPER, 10_000) == pytest.approx(2570.197, abs=1e-3)


@pytest.mark.parametrize(
    ("seconds", "bits"),
    [(0.1, 16), (1, 18), (2, 19), (7.36, 21), (16.48, 22), (34.72, 23), (100, 25), (1000, 29), (2948.47, 30)],
)
def test_c4_bits(seconds, bits):
    assert paper_bits(PAPER, seconds) == bits


def test_no_time_gives_the_floor_and_huge_totals_the_cap():
    assert paper_bits(PAPER, -0.9) == PAPER.min_bits
    assert paper_seconds(PAPER, 1, 1e9) == PAPER.max_seconds


def test_users_cheaper_than_average_are_punished_here_and_not_by_the_additive_rule():
    state, rule = AccountState("a"), PaperRule(POLICY)
    for _ in range(20):
        state, settlement = rule.settle(state, [-157.847191] * 500)
    assert settlement.billed * POLICY.pricing.hashes_per_unit == 2.0**26
    additive = open_rule(Policy(pricing=Pricing(sigma=10.0)))
    _, easy = additive.settle(AccountState("a"), [-157.847191] * 500)
    assert easy.total == pytest.approx(500 * Pricing().base_units)


def test_the_rule_adds_single_epsilons_and_charges_one_puzzle_per_request():
    assert open_rule(POLICY) == RULE
    state, settlement = RULE.settle(AccountState("a"), [-157.847191] * 999 + [float("nan")])
    assert state.epsilon == pytest.approx(999 * 0.188261328 + 0.688615455, rel=1e-5)
    seconds = paper_seconds(PAPER, 1000, state.epsilon)
    assert settlement.billed * 4096 == 2.0 ** paper_bits(PAPER, seconds)
    assert state.debt == pytest.approx(settlement.total)
    assert settlement.billed == pytest.approx(settlement.total)
    assert RULE.quote(AccountState("a"), [-157.847191] * 999 + [float("nan")]).total == settlement.total


def test_the_rule_knows_no_deposit_no_reservation_no_cap():
    fresh = AccountState("a")
    assert RULE.deposit_due(fresh) == RULE.reserve(fresh, 10) == 0.0
    assert RULE.fits(fresh, 10**6)
    assert RULE.due(fresh, 1) * 4096 == 2.0**16
    assert RULE.due(RULE.accept(fresh, 16.0), 1) == 0.0
    assert RULE.due(AccountState("a", queries=5, debt=3.0), 1, quoted=4.0) == 7.0


def test_poisoned_accounts_turn_the_published_line_and_not_the_robust_one():
    x = np.arange(1.0, 21.0)
    y = 2.0 * x + 1.0
    y[-4:] += 500.0
    assert fit_robust(x, y).slope == pytest.approx(2.0, abs=0.2)
    assert fit_line(x, y).slope > 10.0


def test_a_band_only_counts_what_lies_above_it():
    x = np.array([10.0, 20.0, 30.0])
    users = np.outer(np.linspace(0.8, 1.2, 101), x)
    band = fit_band(x, users, coverage=0.98)
    assert band.excess(x, 0.5 * x).tolist() == [0.0] * 3
    assert band.excess(x, 2.0 * x)[0] == pytest.approx(10 * (2.0 - 1.196))
    assert isinstance(band, Band)
    assert isinstance(band.lower, Line)


@pytest.mark.parametrize(
    ("x", "y"),
    [([1.0], [1.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, float("nan")])],
)
def test_lines_need_points(x, y):
    with pytest.raises(InvalidInput):
        fit_line(x, y)
    with pytest.raises(InvalidInput):
        fit_robust(x, y)


def test_bands_need_users():
    with pytest.raises(InvalidInput):
        fit_band([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(InvalidInput):
        fit_band([1.0, 2.0], [[1.0, 2.0]], coverage=1.0)


def test_answers_count_for_the_volume_that_a_later_policy_may_price():
    state, _ = RULE.settle(AccountState("a", volume=7.5), [-5.0, -6.0, -5.0], np.array([False, False, True]))
    assert state.volume == 9.5
    assert RULE.settle(AccountState("a"), [-5.0])[0].volume is None
