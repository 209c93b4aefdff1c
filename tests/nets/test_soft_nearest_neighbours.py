"""The soft nearest neighbour loss: values, gradients, limits, and what breaks naive forms of it."""

import math

import numpy as np
import pytest
import torch

from assay.errors import InvalidInput
from assay.nets.soft_nearest_neighbours import (
    median_distance,
    pairwise_distances,
    plateau,
    soft_nearest_neighbour_loss,
)

LINE = torch.tensor([[0.0], [0.0], [1.0], [1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("groups", "value", "slope"),
    [([0, 0, 1, 1], 0.5514447139, 0.4238831152), ([0, 1, 0, 1], 1.5514447139, -0.5761168848)],
)
def test_values_and_temperature_gradient(groups, value, slope):
    temperature = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    loss = soft_nearest_neighbour_loss(LINE, torch.tensor(groups), temperature, distance="euclidean")
    loss.backward()
    assert float(loss.detach()) == pytest.approx(value, abs=1e-10)
    assert float(temperature.grad) == pytest.approx(slope, abs=1e-10)


def test_equal_points_and_infinite_temperature():
    groups = torch.tensor([0, 0, 1, 1])
    same = soft_nearest_neighbour_loss(torch.ones(4, 3).double(), groups, 1.0, distance="euclidean")
    assert float(same) == pytest.approx(math.log(3), abs=1e-12)
    x = torch.randn(128, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    half = torch.arange(2).repeat_interleave(64)
    flat = soft_nearest_neighbour_loss(x, half, 1e9, distance="euclidean")
    assert float(flat) == pytest.approx(0.70105236, abs=1e-7)
    assert plateau([64, 64]) == pytest.approx(0.70105236, abs=1e-7)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("blocks", [None, [0, 0, 0, 0, 1, 1, 1, 1]])
def test_gradients_are_those_of_finite_differences(distance, blocks):
    x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    groups = torch.tensor([0, 1] * 4)
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    within = None if blocks is None else torch.tensor(blocks)
    assert torch.autograd.gradcheck(
        lambda a, t: soft_nearest_neighbour_loss(a, groups, t, distance=distance, blocks=within),
        (x, temperature),
        rtol=1e-6,
        atol=1e-8,
    )


def test_order_and_scale_do_not_matter():
    x = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    groups = torch.arange(20) % 2
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    for distance in ("cosine", "euclidean"):
        first = soft_nearest_neighbour_loss(x, groups, 0.5, distance=distance)
        second = soft_nearest_neighbour_loss(x[order], groups[order], 0.5, distance=distance)
        assert float(first) == pytest.approx(float(second), rel=1e-12)
    scaled = soft_nearest_neighbour_loss(x * torch.rand(20, 1).double().add(0.1), groups, 0.5)
    assert float(scaled) == pytest.approx(float(soft_nearest_neighbour_loss(x, groups, 0.5)), rel=1e-9)


def test_far_rows_keep_value_and_gradient():
    """An additive epsilon returns 11.51 and no gradient here."""
    x = torch.tensor([[0.0], [1000.0], [1.0], [999.0]], requires_grad=True)
    loss = soft_nearest_neighbour_loss(x, torch.tensor([0, 0, 1, 1]), 1e-3, distance="euclidean")
    loss.backward()
    assert torch.isfinite(loss)
    assert float(loss.detach()) > 1e6
    assert torch.isfinite(x.grad).all()
    assert float(x.grad.abs().max()) > 0


def test_zero_rows_and_lone_rows_are_no_nan():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = soft_nearest_neighbour_loss(x, torch.tensor([0, 0, 1]), 0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()
    lone = soft_nearest_neighbour_loss(x, torch.tensor([0, 1, 2]), 0.1)
    assert float(lone.detach()) == 0.0


def test_blocks_are_separate_losses():
    x = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    groups = torch.tensor([0, 1, 0, 1, 0, 1] * 2)
    blocks = torch.arange(2).repeat_interleave(6)
    whole = soft_nearest_neighbour_loss(x, groups, 0.4, blocks=blocks)
    parts = [soft_nearest_neighbour_loss(x[s], groups[s], 0.4) for s in (slice(0, 6), slice(6, 12))]
    assert float(whole) == pytest.approx(float(sum(parts)) / 2, rel=1e-12)


def test_half_precision_is_computed_in_float32():
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(5))
    groups = torch.arange(16) % 2
    with torch.autocast("cpu", torch.bfloat16):
        inside = soft_nearest_neighbour_loss(x, groups, 0.01)
    assert inside.dtype == torch.float32
    assert float(inside) == pytest.approx(float(soft_nearest_neighbour_loss(x, groups, 0.01)), rel=1e-5)


def test_distances():
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    straight = torch.cdist(x, x) ** 2
    torch.testing.assert_close(pairwise_distances(x, "euclidean"), straight)
    unit = x / x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(pairwise_distances(x), 1 - unit @ unit.T)
    above = straight[np.triu_indices(6, 1)]
    assert median_distance(x, "euclidean") == pytest.approx(float(above.median()))


def test_bad_input_is_refused():
    with pytest.raises(InvalidInput, match="groups"):
        soft_nearest_neighbour_loss(LINE, torch.tensor([0, 1]), 1.0)
    with pytest.raises(InvalidInput, match="temperature"):
        soft_nearest_neighbour_loss(LINE, torch.tensor([0, 1, 0, 1]), 0.0)
    with pytest.raises(InvalidInput, match="two rows"):
        median_distance(LINE[:1])
