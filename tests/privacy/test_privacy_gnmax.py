import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import erfc

from assay.errors import InvalidInput
from assay.privacy import (
    ORDERS,
    PUBLISHED_ORDERS,
    EpsilonTable,
    compose,
    data_independent,
    epsilon_each,
    log_flip_probability,
    renyi,
    sum_of_epsilons,
    to_epsilon,
)

# Dziedzic et al. 2022's settings: votes of 10 classes (rest 0), sigma, delta, then log q, eps(4), eps(25),
# epsilon, its order, epsilon by the tighter conversion. Checked against 60-digit arithmetic.
CASES = {
    "R-a": ([250], 10, 1e-5, -157.847191, 1.8e-66, 2.3e-44, 0.188261328, 62.5, 0.1048935),
    "R-b": ([225, 25], 10, 1e-5, -103.573036, 1.7e-43, 9.1e-26, 0.234469231, 50.5, 0.1352368),
    "R-c": ([200, 30, 20], 10, 1e-5, -75.6622331, 9.4e-32, 9.93e-17, 0.276559128, 43.5, 0.1635949),
    "R-d": ([180, 70], 10, 1e-5, -33.2361561, 4.68e-14, 2.02605e-4, 0.425913913, 29, 0.2702541),
    "R-e": ([150, 100], 10, 1e-5, -8.49996245, 4.91207e-4, 0.239064, 0.688615455, 35, 0.5435528),
    "R-f": ([125, 125], 10, 1e-5, -0.693147181, 0.04, 0.25, 0.688615455, 35, 0.5457256),
    "R-g": ([25] * 10, 10, 1e-5, -0.105360516, 0.04, 0.25, 0.688615455, 35, 0.5457256),
    "R-h": ([250], 10, 1e-6, -157.847191, 1.8e-66, 2.3e-44, 0.225701736, 62.5, 0.1423339),
    "R-i": ([200, 50], 10, 1e-6, -59.5391147, 5.3e-25, 8.95e-12, 0.374881055, 38.5, 0.2512129),
    "R-j": ([50], 2, 1e-5, -157.847191, 4.6e-53, 6.23676, 0.960804189, 13, 0.6670157),
    "R-k": ([45, 5], 2, 1e-5, -103.573036, 1.3e-32, 6.25, 1.21303175, 10.5, 0.8654351),
    "R-l": ([35, 15], 2, 1e-5, -27.8940367, 4.12607e-6, 6.25, 2.41894777, 6, 1.878274),
    "R-m": ([25, 25], 2, 1e-5, -0.693147181, 1.0, 6.25, 3.64470364, 8, 3.190352),
    "R-n": ([300], 28, 1e-5, -29.4624195, 1.94e-13, 7.57e-11, 0.160962189, 76, 0.0891979),
    "R-o": ([200, 100], 28, 1e-5, -5.15328239, 2.22272e-3, 0.0112739, 0.243637669, 96, 0.1794561),
}
DIGITS = {9.93e-17: 1e-3, 9.1e-26: 0.05, 4.68e-14: 1e-3, 1.94e-13: 0.01, 7.57e-11: 1e-3, 8.95e-12: 1e-3}


def histogram(votes):
    return np.array(votes + [0] * (10 - len(votes)), dtype=float)


@pytest.mark.parametrize("case", CASES)
def test_acceptance_values(case):
    votes, sigma, delta, log_q, at_4, at_25, epsilon, order, tighter = CASES[case]
    found = log_flip_probability(histogram(votes), sigma)
    assert_allclose(found, log_q, rtol=1e-8)
    for value, want in zip(renyi(found, sigma, [4, 25]), (at_4, at_25), strict=True):
        # Values are given to as many digits as matter; below 1e-20 the order of magnitude is all.
        rtol = DIGITS.get(want, 0.1 if want < 1e-20 else 5e-6)
        assert_allclose(value, want, rtol=rtol)
    curve = renyi(found, sigma, PUBLISHED_ORDERS)
    got, where = to_epsilon(curve, PUBLISHED_ORDERS, delta)
    assert_allclose(got, epsilon, rtol=1e-8)
    assert where == order
    assert_allclose(to_epsilon(curve, PUBLISHED_ORDERS, delta, tighter=True)[0], tighter, rtol=1e-6)


def test_orders_are_the_published_ones_and_forty_below_two():
    assert len(PUBLISHED_ORDERS) == 396
    assert len(ORDERS) == 436
    assert np.all(np.diff(ORDERS) > 0)
    assert (ORDERS < 2).sum() == 40
    assert np.all(ORDERS > 1)
    with pytest.raises(ValueError, match="read-only"):
        ORDERS[0] = 5.0


def test_q_equals_the_sum_of_error_functions():
    votes = np.array([[30.0, 12, 8], [20, 20, 10], [17, 17, 16]])
    for row in votes:
        top = int(row.argmax())
        q = 0.5 * sum(erfc((row[top] - row[j]) / (2 * 4.0)) for j in range(3) if j != top)
        assert_allclose(log_flip_probability(row, 4.0), min(np.log(q), np.log(2 / 3)), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=3, max_size=6).filter(lambda v: max(v) > 0),
    st.sampled_from([1.0, 4.0, 20.0]),
    st.randoms(use_true_random=False),
)
def test_order_of_classes_is_nothing_and_a_larger_lead_never_costs_more(votes, sigma, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    plain, mixed = log_flip_probability([votes, shuffled], sigma)
    assert_allclose(plain, mixed, rtol=1e-12)
    ahead = list(votes)
    ahead[int(np.argmax(votes))] += 5
    further = log_flip_probability(ahead, sigma)
    assert further <= plain + 1e-12
    assert np.all(renyi(further, sigma) <= renyi(plain, sigma) + 1e-15)


@pytest.mark.parametrize("points", [4_001, pytest.param(80_001, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sigma", [2.0, 10.0, 28.0])
def test_epsilon_and_every_order_rise_with_log_q(sigma, points):
    log_q = -np.geomspace(160, 0.1053, points)
    independent, best = data_independent(sigma), np.inf
    last = np.zeros(len(ORDERS))
    for part in np.array_split(log_q, 20):
        curve = renyi(part, sigma)
        assert np.all(np.diff(curve, axis=0, prepend=last[None]) >= -1e-15)
        assert np.all(curve <= independent)
        epsilon = to_epsilon(curve, ORDERS, 1e-5)[0]
        assert np.all(np.diff(epsilon) >= -1e-15)
        last, best = curve[-1], epsilon[-1]
    assert_allclose(best, to_epsilon(independent, ORDERS, 1e-5)[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("sigma", "delta", "ceiling"), [(10, 1e-5, 0.688615455), (10, 1e-6, 0.753392177), (2, 1e-5, 3.64470364)]
)
def test_data_independent_ceiling(sigma, delta, ceiling):
    curve = data_independent(sigma, PUBLISHED_ORDERS)
    assert_allclose(to_epsilon(curve, PUBLISHED_ORDERS, delta)[0], ceiling, rtol=1e-8)


def test_never_flipped_leaks_nothing():
    assert np.all(renyi(-np.inf, 3.0) == 0)
    assert renyi([-np.inf, -1.0], 3.0, [2]).shape == (2, 1)
    assert renyi(np.empty(0), 3.0, [2]).shape == (0, 1)
    assert log_flip_probability(np.empty((0, 4)), 1.0).shape == (0,)


def test_without_the_cap_the_valid_bound_may_exceed_it():
    log_q = -np.geomspace(20, 1, 200)
    free, capped = renyi(log_q, 28.0, [1.01, 2.0], capped=False), renyi(log_q, 28.0, [1.01, 2.0])
    assert np.all(free >= capped)
    assert np.any(free > capped)


def test_vectorised_equals_one_by_one():
    log_q = -np.geomspace(300, 0.05, 300)
    together = renyi(log_q, 10.0)
    for value, row in zip(log_q, together, strict=True):
        assert_allclose(renyi(value, 10.0), row, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: renyi(0.1, 1.0),
        lambda: renyi(np.nan, 1.0),
        lambda: renyi(-1.0, -1.0),
        lambda: renyi(-1.0, 0.0),
        lambda: renyi(-1.0, 1.0, [1.0]),
        lambda: renyi(-1.0, 1.0, [2.0, np.inf]),
        lambda: renyi(-1.0, 1.0, []),
        lambda: log_flip_probability([1.0], 1.0),
        lambda: log_flip_probability([[1.0, np.nan]], 1.0),
        lambda: log_flip_probability([[1.0, -1.0]], 1.0),
        lambda: log_flip_probability([[1.0, 1.0]], np.inf),
        lambda: to_epsilon([0.1], [2.0], 0.0),
        lambda: to_epsilon([0.1], [2.0], 1.0),
        lambda: to_epsilon([0.1, 0.2], [2.0], 1e-5),
        lambda: to_epsilon([-0.1], [2.0], 1e-5),
        lambda: to_epsilon([np.nan], [2.0], 1e-5),
        lambda: EpsilonTable(1.0, 1e-5)([0.5]),
    ],
)
def test_impossible_values_are_refused(call):
    with pytest.raises(InvalidInput):
        call()


def test_composition():
    unanimous = log_flip_probability(histogram([250]), 10)
    tie = log_flip_probability(histogram([125, 125]), 10)
    published = {
        0: [(1, 0.188261), (100, 0.194223), (10_000, 0.200197)],
        1: [(1, 0.688615), (10, 2.246469), (100, 7.789407), (1_000, 31.512925), (10_000, 211.512925)],
    }
    for log_q, rows in zip((unanimous, tie), published.values(), strict=True):
        curve = renyi(log_q, 10, PUBLISHED_ORDERS)
        for n, want in rows:
            assert_allclose(to_epsilon(n * curve, PUBLISHED_ORDERS, 1e-5)[0], want, atol=6e-7)
    assert_allclose(sum_of_epsilons(np.full(10_000, unanimous), 10, 1e-5), 1882.613, atol=1e-3)
    assert_allclose(sum_of_epsilons(np.full(10_000, tie), 10, 1e-5), 6886.155, atol=1e-3)


def test_composed_is_the_sum_over_queries():
    log_q = np.array([-3.0, -40.0, -0.5])
    assert_allclose(compose(renyi(log_q, 5.0)), sum(renyi(v, 5.0) for v in log_q), rtol=1e-13)


@pytest.mark.parametrize("n", [1_000, 10_000])
def test_orders_below_two_help_large_totals(n):
    tie = np.log(0.5)
    published, where = to_epsilon(n * renyi(tie, 10, PUBLISHED_ORDERS), PUBLISHED_ORDERS, 1e-5)
    wider, _ = to_epsilon(n * renyi(tie, 10, ORDERS), ORDERS, 1e-5)
    assert where == 2
    assert wider <= published
    if n == 10_000:
        assert wider < published - 1


def test_published_floor_of_a_thousand_unanimous_queries():
    # The first rows of the published cheapest-query logs, to ten digits.
    log_q = log_flip_probability(histogram([250]), 10)
    assert_allclose(1000 * epsilon_each(log_q, 10, 1e-5), 188.2613283, rtol=1e-9)
    assert_allclose(1000 * epsilon_each(log_q, 10, 1e-6), 225.7017363, rtol=1e-9)


def test_tighter_conversion_is_tighter_and_never_negative():
    curve = renyi(-np.geomspace(160, 0.1, 50), 10)
    plain, tight = to_epsilon(curve, ORDERS, 1e-5)[0], to_epsilon(curve, ORDERS, 1e-5, tighter=True)[0]
    assert np.all(tight < plain)
    assert to_epsilon(np.zeros(len(ORDERS)), ORDERS, 0.9, tighter=True)[0] == 0
