"""Every sampler must draw every subset equally often."""

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare

from assay.errors import InvalidInput
from assay.statistics import subset_sums
from assay.statistics.subset_sums import all_subset_sums, count_subsets, random_subset_sums


@pytest.mark.parametrize(("n", "k"), [(5, 0), (5, 1), (6, 3), (7, 5), (4, 4)])
def test_enumeration_is_complete(n, k):
    scores = 2.0 ** np.arange(n)
    expected = sorted(sum(c) for c in itertools.combinations(scores.tolist(), k))
    assert sorted(all_subset_sums(scores, k).tolist()) == expected


@pytest.mark.parametrize(("n", "k"), [(6, 2), (8, 4), (9, 1), (10, 3), (16, 2), (17, 1)])
def test_bit_sampler_is_uniform_over_subsets(n, k):
    # Powers of two: the sum names the subset.
    scores = 2.0 ** np.arange(n)
    every = np.sort(all_subset_sums(scores, k))
    drawn = subset_sums._by_bits(scores, k, 200 * every.size, np.random.default_rng(n))
    values, counts = np.unique(drawn, return_counts=True)
    assert np.array_equal(values, every)
    assert chisquare(counts).pvalue > 1e-3


def test_chisquare_would_notice_a_biased_subset_sampler():
    scores = 2.0 ** np.arange(6)
    rng = np.random.default_rng(0)
    # Trap: fair bits without settling, thrown away unless the size fits, then one row favoured.
    drawn = subset_sums._by_bits(scores, 2, 3000, rng)
    biased = np.where((drawn == 3.0) & (rng.random(3000) < 0.5), 48.0, drawn)
    counts = np.unique(biased, return_counts=True)[1]
    assert chisquare(counts).pvalue < 1e-3


@pytest.mark.parametrize(
    ("n", "k"), [(1003, 500), (1003, 900), (1000, 37), (4001, 2), (300, 299), (2048, 1024), (997, 260)]
)
@pytest.mark.parametrize("levels", [2, 0])
def test_sums_have_the_moments_of_sampling_without_replacement(n, k, levels):
    rng = np.random.default_rng(n + k)
    scores = rng.integers(levels, size=n).astype(float) if levels else rng.exponential(size=n)
    drawn = random_subset_sums(scores, k, 20_000, rng)
    variance = k * (1 - k / n) * scores.var(ddof=1)
    assert abs(drawn.mean() - k * scores.mean()) < 4.5 * np.sqrt(variance / drawn.size)
    assert drawn.var() == pytest.approx(variance, rel=0.1)


def test_whole_and_empty_subsets():
    rng = np.random.default_rng(0)
    assert np.array_equal(random_subset_sums(np.arange(4.0), 4, 3, rng), [6.0] * 3)
    assert np.array_equal(random_subset_sums(np.arange(4.0), 0, 3, rng), [0.0] * 3)
    with pytest.raises(InvalidInput, match="0 to 4 members"):
        random_subset_sums(np.arange(4.0), 5, 3, rng)


def test_counting_stops_at_the_limit():
    assert count_subsets(8, 4, 100) == 70
    assert count_subsets(8, 4, 69) == 70
    assert count_subsets(8, 4, 50) == 51
    assert count_subsets(10**6, 5 * 10**5, 10) == 11
