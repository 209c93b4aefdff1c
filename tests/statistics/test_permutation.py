import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.statistics import permutation_p_values, permutation_test, uniformity, welch_test

SCORES = st.lists(st.integers(-20, 20).map(float), min_size=4, max_size=7)


def brute_force(x, y):
    pool = np.concatenate([x, y])
    observed = np.mean(x) - np.mean(y)
    hits = total = 0
    for chosen in itertools.combinations(range(pool.size), len(x)):
        rest = np.delete(pool, chosen)
        hits += pool[list(chosen)].mean() - rest.mean() >= observed - 1e-9
        total += 1
    return hits / total


def test_equals_enumeration_of_the_70_assignments():
    x, y = np.array([0.3, 1.9, 2.2, 0.8]), np.array([0.1, 1.2, -0.4, 0.9])
    result = permutation_test(x, y)
    assert result.p_value == brute_force(x, y)
    assert result.exact
    assert round(result.p_value * 70, 9) == round(result.p_value * 70)
    assert result.n == {"private": 4, "control": 4}


@settings(deadline=None, max_examples=40)
@given(SCORES, SCORES)
def test_equals_enumeration_with_ties(x, y):
    if min(x + y) < max(x + y):
        assert permutation_test(x, y).p_value == pytest.approx(brute_force(x, y), abs=1e-12)


@pytest.mark.parametrize("kind", ["normal", "heavy", "binary", "unbalanced", "strata"])
def test_p_values_are_super_uniform_on_exchangeable_rows(kind):
    rng = np.random.default_rng(7)
    p = []
    for _ in range(400):
        scores = rng.normal(size=60)
        if kind == "heavy":
            scores = rng.standard_cauchy(size=60)
        if kind == "binary":
            scores = (scores > 0.8).astype(float)
        member = rng.permutation(60) < (8 if kind == "unbalanced" else 30)
        strata = np.arange(60) % 3 if kind == "strata" else None
        if strata is not None:
            # Classes differ a lot, and in how many private rows they have; the coin is fair within each.
            scores = scores + 5.0 * strata
            member = rng.permutation(60) < np.array([10, 10, 10])[strata] * 3
        p.append(permutation_p_values(scores, member, strata, resamples=99, rng=rng))
    assert uniformity(p).p_value > 1e-3
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 400)
    if kind in ("normal", "heavy"):
        assert uniformity(p, "two-sided").p_value > 1e-4


@pytest.mark.parametrize("alternative", ["less", "two-sided"])
def test_other_directions_are_super_uniform(alternative):
    rng = np.random.default_rng(12345)
    member = np.arange(40) < 15
    scores = rng.normal(size=(2000, 40))
    p = permutation_p_values(scores, member, resamples=99, rng=rng, alternative=alternative)
    assert uniformity(p).p_value > 1e-3


def test_strata_remove_a_confounded_class():
    rng = np.random.default_rng(3)
    classes_private = np.repeat([0, 1], [150, 50])
    classes_control = np.repeat([0, 1], [50, 150])
    x = rng.normal(size=200) + 2.0 * (classes_private == 0)
    y = rng.normal(size=200) + 2.0 * (classes_control == 0)
    naive = permutation_test(x, y)
    stratified = permutation_test(x, y, strata_private=classes_private, strata_control=classes_control)
    assert naive.p_value < 0.001
    assert stratified.p_value > 0.05
    assert stratified.statistic == naive.statistic


def test_stratified_enumeration_pairs():
    # Three matched pairs, 2^3 assignments; all three differences point the same way.
    result = permutation_test(
        [2.0, 3.0, 5.0], [1.0, 1.0, 1.0], strata_private=["a", "b", "c"], strata_control=["a", "b", "c"]
    )
    assert result.p_value == 1 / 8


def test_monte_carlo_agrees_with_enumeration_and_t_test():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.15, 1.0, size=200), rng.normal(size=200)
    sampled = permutation_test(x, y, resamples=19_999, rng=2)
    assert sampled.p_value == pytest.approx(welch_test(x, y).p_value, rel=0.5)
    small_x, small_y = x[:8], y[:8]
    exact = permutation_test(small_x, small_y).p_value
    repeated = permutation_p_values(
        np.concatenate([small_x, small_y, np.zeros(8)]),
        np.arange(24) < 8,
        np.repeat([0, 1], [16, 8]),
        resamples=9999,
    )
    assert float(repeated) == exact
    bigger = permutation_test(x[:11], y[:11], resamples=40_000, rng=5).p_value
    assert bigger == pytest.approx(brute_force_fast(x[:11], y[:11]), abs=0.012)


def brute_force_fast(x, y):
    pool = np.concatenate([x, y])
    index = np.array(list(itertools.combinations(range(pool.size), x.size)))
    sums = pool[index].sum(axis=1)
    return float(np.mean(sums >= x.sum() - 1e-9))


def test_forty_thousand_rows():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.02, 1.0, size=20_000), rng.normal(size=20_000)
    assert permutation_test(x, y).p_value == pytest.approx(welch_test(x, y).p_value, abs=0.02)


@settings(deadline=None, max_examples=30)
@given(SCORES, SCORES)
def test_swapping_the_groups_mirrors_the_statistic(x, y):
    there, back = permutation_test(x, y), permutation_test(y, x, alternative="less")
    assert there.statistic == -back.statistic
    assert there.p_value == pytest.approx(back.p_value)


@settings(deadline=None, max_examples=30)
@given(SCORES, SCORES, st.floats(0.01, 5.0))
def test_raising_private_scores_never_raises_p(x, y, shift):
    before = permutation_test(x, y, rng=1).p_value
    after = permutation_test(np.array(x) + shift, y, rng=1).p_value
    assert after <= before + 1e-12


@settings(deadline=None, max_examples=30)
@given(SCORES, SCORES, st.sampled_from([1e-200, 1e-6, 3.7, 1e200]), st.sampled_from([0.0, -12.0]))
def test_scale_and_shift_change_nothing(x, y, scale, shift):
    before = permutation_test(x, y)
    after = permutation_test((np.array(x) + shift) * scale, (np.array(y) + shift) * scale)
    assert after.p_value == pytest.approx(before.p_value)


def test_identical_sets_are_inconclusive():
    rows = np.random.default_rng(0).normal(size=300)
    assert permutation_test(rows, rows).p_value > 0.3


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([1.0, 1.0], [1.0, 1.0], "all scores are equal"),
        ([np.nan, 1.0], [0.0, 1.0], "private score"),
        ([1.0, 1.0], [np.inf, 1.0], "control score"),
        ([1.0], [0.0, 1.0], "1 private row"),
        ([2.0, 1.0], [], "0 control row"),
        ([1e308, 0.0], [-1e308, 0.0], "float64"),
    ],
)
def test_degenerate_scores_are_inconclusive_without_error(x, y, reason):
    result = permutation_test(x, y)
    assert result.p_value == 1.0
    assert reason in result.reason
    assert type(result).from_json(result.to_json()) == result


def test_strata_without_overlap_are_inconclusive():
    result = permutation_test([1.0, 2.0], [3.0, 4.0], strata_private=[0, 0], strata_control=[1, 1])
    assert result.p_value == 1.0
    assert "stratum" in result.reason


def test_smallest_monte_carlo_p_value_is_not_zero():
    result = permutation_test(np.arange(50) + 100.0, np.arange(50), resamples=99)
    assert result.p_value == 1 / 100


def test_same_seed_same_p_value_and_effect_has_the_sign():
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.5, 1.0, size=100), rng.normal(size=100)
    first, second = permutation_test(x, y, rng=9), permutation_test(x, y, rng=9)
    assert first == second
    assert first.effect.low < first.effect.value < first.effect.high
    assert first.effect.value > 0


def test_columns_are_tested_one_by_one():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 3, 10))
    member = np.arange(10) < 5
    p = permutation_p_values(scores, member)
    assert p.shape == (2, 3)
    assert p[1, 2] == permutation_test(scores[1, 2, :5], scores[1, 2, 5:]).p_value
    assert permutation_p_values(np.full(10, np.nan), member) == 1.0


def test_looks_stay_valid_and_find_effects():
    rng = np.random.default_rng(2)
    p = [
        permutation_test(*rng.normal(size=(2, 60)), looks=(15, 30, 60), resamples=99, rng=rng).p_value
        for _ in range(300)
    ]
    assert uniformity(p).p_value > 1e-3
    found = permutation_test(rng.normal(2.0, 1.0, size=60), rng.normal(size=60), looks=(20, 40))
    assert found.p_value <= 2 / 10_000 * 1.5
    assert found.n == {"private": 40, "control": 40}
    assert found.test == "permutation-sequential"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 0}, "resamples"),
        ({"resamples": 1.5}, "resamples"),
        ({"alternative": "bigger"}, "alternative"),
        ({"confidence": 1.0}, "confidence"),
        ({"strata_private": [0, 0, 0]}, "both or neither"),
        ({"strata_private": [0, 0], "strata_control": [0, 0, 0]}, "shapes"),
        ({"looks": (3, 2)}, "increasing"),
        ({"looks": (2, 9)}, "increasing"),
        ({"looks": ()}, "increasing"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidInput, match=message):
        permutation_test([1.0, 2.0, 3.0], [0.0, 1.0, 2.0], **options)


def test_bad_shapes():
    with pytest.raises(InvalidInput, match="shape"):
        permutation_test([[1.0]], [1.0])
    with pytest.raises(InvalidInput, match="real numbers"):
        permutation_test(["a"], [1.0])
    with pytest.raises(InvalidInput, match="bool"):
        permutation_p_values([1.0, 2.0], [1, 0])
    with pytest.raises(InvalidInput, match="strata"):
        permutation_p_values([1.0, 2.0], [True, False], [1])
