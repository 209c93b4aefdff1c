import time

import numpy as np
import pytest

from assay.errors import InvalidInput
from assay.privacy import ORDERS, PUBLISHED_ORDERS, EpsilonTable, RenyiTable, renyi, to_epsilon

GRID = -np.geomspace(160, 0.1053, 4_001)


@pytest.mark.parametrize(("sigma", "tolerance"), [(10.0, 2e-5), (28.0, 2e-5), (2.0, 3e-4)])
def test_epsilon_table_is_close_to_the_direct_value(sigma, tolerance):
    direct = to_epsilon(renyi(GRID, sigma, PUBLISHED_ORDERS), PUBLISHED_ORDERS, 1e-5)[0]
    found = EpsilonTable(sigma, 1e-5, orders=PUBLISHED_ORDERS)(GRID)
    assert np.abs(found - direct).max() <= tolerance
    assert np.all(np.diff(found) >= 0)


@pytest.mark.parametrize("order", [1.5, 2.0, 8.0, 32.0])
@pytest.mark.parametrize("sigma", [2.0, 10.0, 28.0])
def test_renyi_table_keeps_relative_size(sigma, order):
    direct = renyi(GRID, sigma, [order])[:, 0]
    found = RenyiTable(sigma, order)(GRID)
    seen = direct > 1e-250
    assert np.abs(found / np.where(seen, direct, 1) - 1)[seen].max() < 2e-3
    assert np.abs(found - direct).max() < 3e-5
    assert np.all(np.diff(found) >= 0)


def test_several_orders_are_several_tables():
    both = RenyiTable(4.0, [2.0, 8.0])(GRID[:50])
    assert both.shape == (50, 2)
    # Tables of their own start at other points; both are within the interpolation error.
    np.testing.assert_allclose(both[:, 1], RenyiTable(4.0, 8.0)(GRID[:50]), rtol=5e-3)


def test_ends_of_the_table():
    table = EpsilonTable(10.0, 1e-5, points=2_001)
    ceiling = float(to_epsilon(ORDERS / 100.0, ORDERS, 1e-5)[0])
    np.testing.assert_allclose(table([0.0, -1e-9, -1e-3, -0.1]), ceiling, rtol=1e-12)
    floor = table(-700.0)
    np.testing.assert_allclose(table([-np.inf, -5000.0]), floor)
    assert floor < table(-160.0)
    assert table(np.array([[-1.0, -2.0]])).shape == (1, 2)
    assert table([]).shape == (0,)
    assert RenyiTable(10.0, 2.0)(-np.inf) < 1e-60


def test_price_of_the_published_settings_stays_in_its_range():
    # Sum-of-epsilons bills between the floor of a unanimous vote and the ceiling of a tie.
    for sigma, delta, low, high in [
        (10, 1e-5, 0.18826, 0.68862),
        (10, 1e-6, 0.22570, 0.75339),
        (2, 1e-5, 0.96080, 3.64470),
    ]:
        found = EpsilonTable(sigma, delta, orders=PUBLISHED_ORDERS, points=2_001)([-157.847191, -0.69])
        np.testing.assert_allclose(found, [low, high], atol=2e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: EpsilonTable(0.0, 1e-5),
        lambda: EpsilonTable(1.0, 2.0),
        lambda: RenyiTable(1.0, 1.0),
        lambda: RenyiTable(1.0, 2.0, points=1),
        lambda: RenyiTable(1.0, 2.0, lowest=-1e-4),
        lambda: RenyiTable(1.0, 2.0)([1.0]),
        lambda: RenyiTable(1.0, 2.0)([np.nan]),
    ],
)
def test_impossible_tables_are_refused(call):
    with pytest.raises(InvalidInput):
        call()


def test_more_than_a_hundred_thousand_queries_a_second():
    table, log_q = EpsilonTable(10.0, 1e-5), -np.random.default_rng(0).uniform(0.1, 160, 50_000)
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        table(log_q)
        best = min(best, time.process_time() - start)
    assert len(log_q) / best > 100_000
