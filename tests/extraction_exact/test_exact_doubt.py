"""Which questions are worth asking: kernel machines and rounded linear models."""

from __future__ import annotations

import numpy as np
import pytest

from assay.extraction.exact.close_calls import close_calls
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.doubt import most_doubtful


def test_a_batch_does_not_crowd_one_place():
    pool = np.r_[np.full((20, 1), 0.5) + 1e-3 * np.arange(20)[:, None], [[-0.5]]]
    known = np.array([[-1.0], [0.0], [1.0]])
    decision = np.r_[np.full(20, 0.01), 0.02]
    chosen = most_doubtful(pool, decision, known, np.array([-1.0, 0.0, 1.0]), 4.0, 2)
    assert 20 in chosen


def test_where_was_asked_before_nothing_is_doubtful():
    known = np.linspace(-1, 1, 9)[:, None]
    pool = np.r_[known, [[0.9]]]
    chosen = most_doubtful(pool, np.full(10, 0.1), known, np.zeros(9), 30.0, 1)
    assert chosen.tolist() == [9]


def test_of_many_known_points_the_nearest_to_the_boundary_count():
    rng = np.random.default_rng(0)
    known, pool = rng.uniform(-1, 1, (3000, 2)), rng.uniform(-1, 1, (50, 2))
    nearest = known[np.argsort(np.abs(known[:, 0]))[:2000]]
    chosen = most_doubtful(pool, pool[:, 0], known, known[:, 0], 1.0, 5)
    assert chosen.tolist() == most_doubtful(pool, pool[:, 0], nearest, nearest[:, 0], 1.0, 5).tolist()
    assert len(set(chosen.tolist())) == 5


@pytest.mark.parametrize("link", ["softmax", "one-vs-rest"])
def test_close_calls_are_close_and_inside(link):
    rng, domain = np.random.default_rng(1), Domain.box(5, 0.0, 2.0)
    weights = rng.normal(0, 2, (3, 6))
    x = domain.uniform(12, rng)
    rows = close_calls(domain, x, weights, 0.005, 9, rng, link)
    assert rows.shape == (9, 5)
    assert domain.contains(rows).all()

    def gaps(points):
        z = np.sort(points @ weights[:, :-1].T + weights[:, -1], axis=1)
        return z[:, -1] - z[:, -2]

    assert np.median(gaps(rows)) < np.median(gaps(domain.uniform(500, rng)))
    assert len(np.unique(rows, axis=0)) == 9
