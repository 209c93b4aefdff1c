from __future__ import annotations

import math

import pytest
import torch

from assay.errors import InvalidInput
from assay.evidence.dataset_inference.blind_walk import WalkEmbedding
from assay.evidence.dataset_inference.features import Standardization, check_features, flatten, log_features
from assay.evidence.dataset_inference.mingd import MarginEmbedding


def walks(distances, censored=None, correct=None, width=1.0):
    censored = torch.zeros(distances.shape, dtype=torch.bool) if censored is None else censored
    ones = torch.ones(distances.shape, dtype=torch.int64)
    return WalkEmbedding(distances, ones, censored, ones.sum((1, 2)), correct, ("linf", "l2", "l1"), width)


def constant_rows(rows):
    return bool((rows == torch.arange(len(rows)).unsqueeze(1)).all())


def test_flatten_keeps_one_row_per_image():
    filled = torch.arange(60.0).reshape(60, 1, 1).expand(60, 10, 3)
    assert constant_rows(flatten(filled))
    published = filled.permute(2, 1, 0).reshape(60, 30)  # what reversing all axes does
    assert not constant_rows(published)
    with pytest.raises(InvalidInput):
        flatten(torch.zeros(3, 4))


def test_log_features_ignore_the_order_of_walks():
    g = torch.Generator().manual_seed(0)
    d = torch.rand(5, 10, 3, generator=g)
    censored = torch.rand(5, 10, 3, generator=g) < 0.3
    order = torch.randperm(10, generator=g)
    correct = torch.tensor([True, False, True, True, False])
    a = log_features(walks(d, censored, correct))
    b = log_features(walks(d[:, order], censored[:, order], correct))
    assert a.shape == (5, 34)
    assert torch.equal(a, b)
    assert torch.equal(a[:, 30:33], censored.float().mean(1))
    assert torch.equal(a[:, 33], correct.float())
    assert log_features(walks(d, censored)).shape == (5, 33)
    by_walk = a[:, :30].reshape(5, 10, 3)
    assert (by_walk.diff(dim=1) >= 0).all()
    assert torch.allclose(by_walk, torch.log(d.sort(dim=1).values + 1e-3))


def test_log_features_have_no_unit():
    d = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(log_features(walks(d)), log_features(walks(255 * d, width=255.0)), atol=1e-5)


def test_log_features_of_margins_count_what_was_not_reached():
    d = torch.rand(2, 4, 3)
    reached = torch.ones(2, 4, 3, dtype=torch.bool)
    reached[1, 0] = False
    n = torch.zeros(2, 4, 3, dtype=torch.int64)
    found = MarginEmbedding(
        d, reached, n, n[:, :, 0], n[:, 0, 0], torch.tensor([True, False]), ("linf", "l2", "l1"), 1.0
    )
    assert log_features(found)[:, -4:].tolist() == [[0, 0, 0, 1], [0.25, 0.25, 0.25, 0]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_bad_distances(value):
    d = torch.ones(2, 2, 3)
    d[1, 1, 1] = value
    with pytest.raises(InvalidInput):
        log_features(walks(d))
    with pytest.raises(InvalidInput, match="offset"):
        log_features(walks(torch.ones(2, 2, 3)), offset=0.0)


def test_standardization_uses_training_rows_only():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(100, 4, generator=g) * torch.tensor([1.0, 5.0, 0.1, 0.0]) + 3
    fitted = Standardization.fit(rows[:50])
    done = fitted.apply(rows[:50])
    assert done.dtype == torch.float64
    assert torch.allclose(done.mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(done.std(0), torch.tensor([1.0, 1, 1, 0], dtype=torch.float64))
    assert torch.equal(fitted.mean, rows[:50].double().mean(0))
    assert torch.equal(Standardization.identity(4).apply(rows), rows.double())
    with pytest.raises(InvalidInput, match="fitted on 4"):
        fitted.apply(rows[:, :3])


@pytest.mark.parametrize(
    "bad", [torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64), torch.full((2, 2), math.nan), [[1.0]]]
)
def test_bad_features(bad):
    with pytest.raises(InvalidInput):
        check_features(bad)
