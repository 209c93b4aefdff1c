import numpy as np
import pytest

from assay.errors import InvalidInput
from assay.statistics import (
    margin_gap,
    membership_accuracy,
    ownership_accuracy,
    ownership_rates,
    simulate_gap,
    simulate_membership,
)


@pytest.mark.parametrize(
    ("samples", "sigma", "gap", "tolerance"), [(200, 0.5, 5.0, 0.15), (50, 1.0, 20.0, 0.6)]
)
def test_margin_gap_does_not_depend_on_the_sample_size(samples, sigma, gap, tolerance):
    assert margin_gap(20, sigma) == gap
    assert simulate_gap(samples, 20, sigma, repeats=2000).mean() == pytest.approx(gap, abs=tolerance)


def test_averaged_gradients_and_rates():
    assert margin_gap(20, 0.5, points=50, aggregate="mean") == pytest.approx(0.1)
    assert margin_gap(20, 0.5, points=50) == 5.0
    assert margin_gap(20, 0.5, rate=0.1) == pytest.approx(0.5)


def test_single_points_cannot_be_told_apart():
    assert membership_accuracy(900, 50_000) == pytest.approx(0.52674, abs=1e-5)
    assert simulate_membership(200, 20, repeats=1200) == pytest.approx(0.563, abs=0.004)
    assert membership_accuracy(20, 200) == pytest.approx(0.563, abs=0.001)


def test_ownership_rates_of_both_arms():
    rates = ownership_rates(32, 100_000)
    assert rates.stolen == pytest.approx(0.965, abs=0.004)
    assert rates.independent == pytest.approx(0.976, abs=0.004)
    assert rates.stolen_variance == pytest.approx(3 * 32, rel=0.03)
    assert rates.independent_variance == pytest.approx(2 * 32, rel=0.03)
    assert ownership_accuracy(32) == pytest.approx(0.97725, abs=1e-5)


@pytest.mark.parametrize(
    ("dimension", "stolen", "independent", "formula"),
    [(8, 0.787, 0.856, 0.8413), (44, 0.985, 0.990, 0.9905), (100, 0.9996, 0.9997, 0.9998)],
)
def test_rates_over_dimensions(dimension, stolen, independent, formula):
    rates = ownership_rates(dimension, 100_000, rng=1)
    assert rates.stolen == pytest.approx(stolen, abs=0.004)
    assert rates.independent == pytest.approx(independent, abs=0.004)
    assert ownership_accuracy(dimension) == pytest.approx(formula, abs=1e-4)
    assert ownership_accuracy(dimension, "stolen") < ownership_accuracy(dimension)


def test_the_simulated_model_has_the_exact_law():
    gaps = simulate_gap(60, 12, 1.0, repeats=4000, rng=2)
    assert gaps.var() == pytest.approx(3 * 12, rel=0.12)
    assert np.mean(gaps > 6.0) == pytest.approx(ownership_rates(12, 100_000).stolen, abs=0.02)


@pytest.mark.parametrize(
    "call",
    [
        lambda: margin_gap(0, 1.0),
        lambda: margin_gap(3, -1.0),
        lambda: membership_accuracy(3, 0),
        lambda: ownership_accuracy(3, "copied"),
        lambda: ownership_rates(3, 1),
        lambda: simulate_gap(0, 3, 1.0, repeats=2),
        lambda: simulate_gap(3, 3, -1.0, repeats=2),
    ],
)
def test_bad_input(call):
    with pytest.raises(InvalidInput):
        call()
