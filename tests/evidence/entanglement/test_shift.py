"""Clusters between two classes: of the source, near the target, compact, and no peeking."""

import numpy as np
import pytest
import torch

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.shift import rank_shifts, shift_pool, unseen_scores

ROWS = 400


def place(x):
    return torch.cat([x.cos(), x.sin()], 1)


@pytest.fixture(scope="module")
def data():
    angle = torch.linspace(0, 3, ROWS)[:, None]  # class 0 below 1.5, class 1 above
    return Dataset(angle, (angle[:, 0] > 1.5).long(), ("low", "high"), (0.0, 3.0))


@pytest.fixture(scope="module")
def scores(data):
    return torch.stack([1.5 - data.x[:, 0], data.x[:, 0] - 1.5], 1).mul(4).softmax(1)


def test_a_cluster_is_of_the_source_near_the_target_and_compact(data, scores):
    pool = shift_pool(
        data, data, scores, place, (0, 1), share=0.1, repeats=1, asked=30, rng=np.random.default_rng(0)
    )
    assert len(pool.rows) == 20
    assert (data.y[pool.rows] == 0).all()
    assert torch.equal(pool.trained, data.x[pool.rows])
    assert float(pool.trained.min()) > 1.2  # the boundary is at 1.5
    assert float(pool.trained.max() - pool.trained.min()) < 0.2
    assert pool.plausible == ((1,),)
    assert (pool.held_out < 1.51).all()  # never the target's own rows
    assert float(pool.held_out.min()) > 1.0


def test_the_generator_draws_the_cluster(data, scores):
    drawn = {
        int(
            shift_pool(
                data,
                data,
                scores,
                place,
                (0, 1),
                share=0.05,
                repeats=1,
                asked=5,
                rng=np.random.default_rng(seed),
            ).rows[0]
        )
        for seed in range(12)
    }
    assert len(drawn) > 2


def test_classes_that_nobody_confuses_have_a_cluster_too(data):
    certain = torch.nn.functional.one_hot(data.y, 2).float()
    pool = shift_pool(
        data, data, certain, place, (1, 0), share=0.1, repeats=1, asked=5, rng=np.random.default_rng(0)
    )
    assert len(pool.rows) == 20
    with pytest.raises(InvalidInput, match="too few for a mark"):
        shift_pool(
            data, data, certain, place, (1, 0), share=0.01, repeats=1, asked=5, rng=np.random.default_rng(0)
        )


def test_pairs_are_ranked_by_confusion():
    scores = torch.tensor([[0.5, 0.1, 0.4], [0.3, 0.6, 0.1], [0.0, 0.05, 0.95]])
    ranked = rank_shifts(scores, torch.tensor([0, 1, 2]))
    assert ranked[:2] == [(0, 2), (1, 0)]
    assert len(ranked) == 6
    assert rank_shifts(scores[:2], torch.tensor([0, 1]))[0] == (1, 0)  # no rows, no pair


def test_every_row_is_scored_by_a_model_that_did_not_see_it(data):
    seen = []

    class Model:
        def scores(self, x):
            return torch.full((len(x), 2), float(len(seen)))

    def clean(turn, rows):
        seen.append((turn, set(rows.tolist())))
        return Model()

    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    found = unseen_scores(data, order, clean)
    for number, (_, rows) in enumerate(seen, 1):
        scored = set((found[:, 0] == number).nonzero().flatten().tolist())
        assert not scored & rows
        assert len(scored) == ROWS // 2
