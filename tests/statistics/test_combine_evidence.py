import numpy as np
import pytest
from scipy.integrate import quad

from assay.errors import InvalidInput
from assay.statistics import (
    average_e,
    bonferroni_combine,
    e_to_p,
    p_to_e,
    product_e,
    twice_mean,
    uniformity,
)


def dependent(kind, repeats=2000):
    """Uniform margins, very different dependence."""
    rng = np.random.default_rng(0)
    u = rng.random(repeats)
    if kind == "independent":
        return rng.random((repeats, 4))
    if kind == "same":
        return np.repeat(u[:, None], 4, axis=1)
    if kind == "mirrored":
        return np.stack([u, 1 - u, u, 1 - u], axis=1)
    return (u[:, None] + np.arange(4) / 4) % 1.0


@pytest.mark.parametrize("kind", ["independent", "same", "mirrored", "rotated"])
@pytest.mark.parametrize(
    "rule",
    [
        bonferroni_combine,
        twice_mean,
        lambda p: bonferroni_combine(p, [0.7, 0.1, 0.1, 0.1]),
        lambda p: float(e_to_p(average_e(p_to_e(p)))),
    ],
)
def test_valid_under_any_dependence(kind, rule):
    assert uniformity([rule(row) for row in dependent(kind)]).p_value > 1e-3


def test_the_bare_mean_would_not_be_valid():
    # The factor 2 is sharp: these two p-values have the smallest possible mean with probability 0.2.
    rng = np.random.default_rng(0)
    u = rng.random(4000)
    first = u
    second = np.where(u < 0.2, 0.2 - u, u)
    assert uniformity([twice_mean(pair) for pair in np.stack([first, second], axis=1)]).p_value > 1e-3
    assert uniformity((first + second) / 2).p_value < 1e-3


@pytest.mark.parametrize("kappa", [0.1, 0.5, 0.9])
def test_calibrator_has_expectation_one(kappa):
    assert quad(lambda p: float(p_to_e(p, kappa)), 0, 1)[0] == pytest.approx(1.0, abs=1e-6)


def test_product_is_valid_for_independent_and_not_for_repeated_evidence():
    rng = np.random.default_rng(1)
    e = rng.choice([0.0, 0.5, 3.0], p=[0.2, 0.6, 0.7 / 3 - 0.1 / 3], size=(4000, 3))
    assert e.mean() == pytest.approx(0.9, abs=0.05)
    assert uniformity([float(e_to_p(product_e(row))) for row in e]).p_value > 1e-3
    assert np.mean([product_e([row[0]] * 3) for row in e]) > 2.0


def test_simple_values():
    assert bonferroni_combine([0.2]) == 0.2
    assert bonferroni_combine([0.9, 0.8]) == 1.0
    assert twice_mean([0.3]) == 0.3
    assert average_e([np.inf, 1.0], [0.0, 1.0]) == 1.0
    assert product_e([0.0, np.inf]) == 0.0
    assert p_to_e(0.0) == np.inf
    assert e_to_p([0.0, np.inf]).tolist() == [1.0, 0.0]


def test_bad_input():
    for call in (
        lambda: bonferroni_combine([0.1, 0.2], [0.9, 0.9]),
        lambda: bonferroni_combine([0.1, 0.2], [1.0, 0.0]),
        lambda: bonferroni_combine([0.1], [0.5, 0.5]),
        lambda: twice_mean([np.nan]),
        lambda: average_e([-1.0]),
        lambda: product_e([]),
        lambda: e_to_p([np.nan]),
        lambda: p_to_e(0.1, kappa=1.0),
    ):
        with pytest.raises(InvalidInput):
            call()
