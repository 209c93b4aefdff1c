"""Where a patch goes: the largest box, all channels, exact row and column."""

import pytest
import torch

from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.placement import (
    best_corner,
    median_scales,
    mixing,
    place_patch,
)
from assay.nets import build


def test_the_box_with_the_largest_gradient_is_found_not_the_smallest():
    gradient = torch.zeros(28, 28)
    gradient[4:7, 17:20] = 0.5
    assert best_corner(gradient, 3) == (4, 17)
    gradient[10:13, 2:5] = -5.0
    assert best_corner(gradient, 3) == (4, 17)


def test_channels_are_added_and_ties_go_to_reading_order():
    gradient = torch.zeros(3, 12, 9)
    gradient[1, 5:8, 6:9] = 1.0  # one channel alone must be enough: the last rows and columns too
    assert best_corner(gradient, 3) == (5, 6)
    gradient[:, 0:3, 0:3] = 0.4
    assert best_corner(gradient, 3) == (0, 0)
    assert best_corner(torch.zeros(5, 5), 2) == (0, 0)
    assert best_corner(torch.full((6, 4), 0.1), 3) == (0, 0)


def test_rows_are_rows():
    gradient = torch.zeros(6, 20)
    gradient[2:4, 15:17] = 1.0
    assert best_corner(gradient, 2) == (2, 15)


@pytest.mark.parametrize("size", [0, 6])
def test_a_patch_that_does_not_fit_is_refused(size):
    with pytest.raises(InvalidInput, match="does not fit"):
        best_corner(torch.zeros(5, 9), size)


def test_the_place_is_the_one_that_raises_the_loss_most():
    generator = torch.Generator().manual_seed(0)
    network = build("cnn-4", (1, 10, 10), 3, 0).eval()
    marks = torch.rand(12, 1, 10, 10, generator=generator)
    ordinary = torch.rand(12, 1, 10, 10, generator=generator) ** 3
    row, column = place_patch(network, marks, ordinary, 3)
    scales = median_scales(network, torch.cat([marks, ordinary]))

    def gained(r, c):  # by a small step on that box alone
        moved = marks.clone()
        moved[:, :, r : r + 3, c : c + 3] += 1e-3
        with torch.no_grad():
            return float(mixing(network, moved, ordinary, temperatures=scales))

    gains = {(r, c): gained(r, c) for r in range(8) for c in range(8)}
    best = sorted(gains.values())[-4]
    assert gains[row, column] >= best
    assert all(p.grad is None for p in network.parameters())


def test_tables_have_no_place_for_a_patch():
    with pytest.raises(InvalidInput, match="images"):
        place_patch(build("mlp-8", (5,), 2).eval(), torch.rand(4, 5), torch.rand(4, 5), 2)
