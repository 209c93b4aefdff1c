"""A rate of so many a second, with no more saved up than one second brings."""

import pytest

from assay.gateway.server.allowance import Allowance


@pytest.mark.parametrize("rate", [1.0, 7.0, 100.0])
def test_no_more_pass_than_the_rate_and_one_second_allow(rate):
    now = [0.0]
    allowance, passed = Allowance(rate, clock=lambda: now[0]), 0
    for _ in range(4000):
        passed += allowance.take(rate)
        now[0] += 0.001
    assert 4 * rate <= passed <= 5 * rate + 1


def test_idle_time_is_not_saved_up():
    now = [0.0]
    allowance = Allowance(3.0, clock=lambda: now[0])
    now[0] = 1e6
    assert [allowance.take(3.0) for _ in range(4)] == [True, True, True, False]


def test_a_lower_rate_holds_at_once():
    allowance = Allowance(100.0, clock=lambda: 0.0)
    assert [allowance.take(2.0) for _ in range(3)] == [True, True, False]
