from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from assay.errors import InvalidInput
from assay.evidence.dataset_inference.features import flatten
from assay.evidence.dataset_inference.paper_compat import (
    PublishedAggregate,
    published_aggregate,
    published_features,
)
from assay.evidence.dataset_inference.scorers import PaperRegressor


def test_aggregate_is_the_harmonic_mean_of_welch_tests():
    rng = np.random.default_rng(0)
    private, control = rng.normal(0.3, 1, 50), rng.normal(0, 2, 50)
    found = published_aggregate(private, control, rng=1, rows=50, draws=3)  # all rows: order is no matter
    p = stats.ttest_ind(private, control, equal_var=False, alternative="greater").pvalue
    assert found.harmonic_mean == pytest.approx(p)
    assert found.mean_difference == pytest.approx(private.mean() - control.mean())
    assert (found.rows, found.draws, found.revealed) == (50, 3, 50)
    assert "not a p-value" in found.note
    assert PublishedAggregate.from_json(found.to_json()) == found


def test_aggregate_draws_are_seeded_subsets_at_equal_positions():
    private = np.arange(30.0)
    found = published_aggregate(private + 1, private, rng=0)
    assert found.mean_difference == pytest.approx(1.0)  # same positions on both sides
    assert found == published_aggregate(private + 1, private, rng=0)
    assert found != published_aggregate(private + 1, private, rng=1)
    longer = np.concatenate([private, np.full(9, 1e9)])
    assert published_aggregate(private + 1, longer, rng=0) == found


def test_aggregate_is_too_often_small_without_any_difference():
    rng = np.random.default_rng(0)
    small = [
        published_aggregate(rng.normal(size=200), rng.normal(size=200), rng=i).harmonic_mean < 0.05
        for i in range(300)
    ]
    assert np.mean(small) > 0.06  # a p-value would be below in 5 % of the cases


def test_degenerate_scores_give_one():
    assert published_aggregate(np.ones(12), np.ones(12), rng=0).harmonic_mean == 1.0
    assert published_aggregate(np.full(12, np.nan), np.ones(12), rng=0).harmonic_mean == 1.0


def test_features_are_scaled_by_norm():
    g = torch.Generator().manual_seed(0)
    reference = torch.rand(40, 10, 3, generator=g) * torch.tensor([0.02, 0.5, 10])
    rows = published_features(reference, reference, ascending=False).reshape(40, 10, 3)
    assert torch.allclose(rows.mean((0, 1)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(rows.std((0, 1)), torch.ones(3))
    ordered = published_features(reference, reference, ascending=True).reshape(40, 10, 3)
    assert torch.equal(ordered, rows.sort(dim=1).values)


def shared_difficulty(seed):
    """Return distances of a victim and an unrelated suspect for the same images, without membership."""
    g = torch.Generator().manual_seed(seed)
    sides = []
    for _ in range(2):
        a = torch.randn(1000, 1, 1, generator=g)
        sides.append([torch.exp(0.6 * a + 0.4 * torch.randn(1000, 10, 3, generator=g)) for _ in range(2)])
    (private_victim, private_suspect), (control_victim, control_suspect) = sides
    return private_victim, control_victim, private_suspect, control_suspect


def reversed_axes(distances):
    return distances.permute(2, 1, 0).reshape(len(distances), -1)


def published_run(seed, layout):
    private, control, *suspect = shared_difficulty(seed)
    mean, std = private.mean((0, 1)), private.std((0, 1))
    train = torch.cat([layout((d - mean) / std)[:500] for d in (private, control)])
    fitted = PaperRegressor(steps=400, standardize=False).fit(train, torch.arange(1000) < 500, seed)
    scores = [fitted.score(layout((d - mean) / std)[500:]) for d in suspect]
    return published_aggregate(*scores, rng=seed)


def test_reversed_axes_accuse_a_model_that_knows_nothing():
    honest = [published_run(seed, flatten) for seed in range(3)]
    assert np.median([h.harmonic_mean for h in honest]) > 0.03
    assert abs(np.mean([h.mean_difference for h in honest])) < 0.15
    wrong = published_run(0, reversed_axes)
    assert wrong.harmonic_mean < 1e-3
    assert wrong.mean_difference > 0.5


@pytest.mark.parametrize(
    ("private", "control", "rows"),
    [
        (np.zeros((4, 2)), np.zeros(4), 2),
        (np.zeros(4), np.zeros(4), 5),
        (np.zeros(4), np.zeros(4), 1),
        (np.zeros(3), np.zeros(40), 10),
    ],
)
def test_bad_scores(private, control, rows):
    with pytest.raises(InvalidInput):
        published_aggregate(private, control, rng=0, rows=rows)


def test_bad_distances():
    with pytest.raises(InvalidInput):
        published_features(torch.zeros(2, 3), torch.zeros(2, 3, 1), ascending=True)
