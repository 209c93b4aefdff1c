import numpy as np
import pytest

from assay.evidence.dataset_inference.informative import label_weights, score_weights
from assay.evidence.dataset_inference.references import References


def panel(gap, references=16, rows=400, noise=1.0, seed=0):
    """References whose members have a margin larger by ``gap`` ([rows]) than non-members'."""
    rng = np.random.default_rng(seed)
    members = np.zeros((references, rows), dtype=bool)
    for first in range(0, references, 2):
        members[first, rng.permutation(rows)[: rows // 2]] = True
        members[first + 1] = ~members[first]
    margin = rng.normal(0, noise, (references, rows)) + members * gap
    return References(np.arange(rows, dtype=np.uint64), members, margin.astype(np.float32))


@pytest.mark.parametrize("weights", [label_weights, score_weights])
def test_rows_with_a_membership_gap_come_first(weights):
    gap = np.where(np.arange(400) < 40, 4.0, 0.0)
    order = weights(panel(gap)).order()
    assert np.mean(order[:40] < 40) > 0.9


@pytest.mark.parametrize("weights", [label_weights, score_weights])
def test_rows_where_members_do_worse_weigh_nothing_and_come_last(weights):
    gap = np.where(np.arange(400) < 40, -4.0, 0.0)
    found = weights(panel(gap))
    assert (found.slope >= 0).all()
    assert np.mean(found.order()[-20:] < 40) > 0.9
    assert (found.information[:40] < 0).mean() > 0.9


def test_label_rates_follow_the_margins_exactly_with_many_references():
    # Non-members are right half of the time, members at one standard deviation: log odds 1.66.
    found = label_weights(panel(np.ones(200), references=2000, rows=200))
    assert found.centre.mean() == pytest.approx(0.5, abs=0.01)
    expected = np.log(0.8413 / 0.1587)
    assert found.slope.mean() == pytest.approx(expected, rel=0.05)


def test_score_slope_is_the_gap_over_the_variance():
    found = score_weights(panel(np.full(200, 2.0), references=2000, rows=200, noise=0.5))
    assert found.slope.mean() == pytest.approx(2.0 / 0.25, rel=0.05)
    assert found.centre.mean() == pytest.approx(0.0, abs=0.02)


def test_rates_stay_away_from_zero_and_one_and_ties_keep_pool_order():
    sure = panel(np.zeros(100), references=4, rows=100)
    sure = References(sure.rows, sure.members, np.full_like(sure.margin, 9.0))
    found = label_weights(sure)
    assert np.isfinite(found.slope).all()
    assert (found.slope < 1e-9).all()
    assert found.order().tolist() == list(range(100))


def test_a_row_that_no_reference_trained_on_carries_no_information():
    members = np.array([[True, False], [True, False]])
    found = score_weights(References(np.arange(2, dtype=np.uint64), members, np.ones((2, 2), np.float32)))
    assert found.information.tolist() == [0.0, 0.0]
