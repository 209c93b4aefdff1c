"""Families: inside the range, any size and number of channels, alike inside, unlike between."""

import numpy as np
import pytest
import torch

from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.families import Family, draw_families


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 20), (2, 4, 4)])
@pytest.mark.parametrize("limits", [(0.0, 1.0), (-2.0, 3.0)])
def test_images_fit(shape, limits):
    rng = np.random.default_rng(0)
    for family in draw_families(22, shape, rng):
        images = family.images(5, shape, limits, rng)
        assert images.shape == (5, *shape)
        assert images.dtype == torch.float32
        assert images.min() >= limits[0]
        assert images.max() <= limits[1]
        assert torch.isfinite(images).all()
        assert not torch.equal(images[0], images[1])
    assert family.images(0, shape, limits, rng).shape == (0, *shape)


def test_families_can_be_told_apart():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    families = draw_families(11, (1, 16, 16), rng)

    def draw(count):
        x = torch.cat([f.images(count, (1, 16, 16), (0.0, 1.0), rng) for f in families])
        spectrum = torch.fft.rfft2(x).abs().flatten(1)  # places and phases differ inside a family
        return spectrum.numpy(), np.repeat(np.arange(11), count)

    model = LogisticRegression(max_iter=3000).fit(*draw(60))
    assert model.score(*draw(30)) > 0.7


def test_repeatable_and_distinct():
    first, second = (draw_families(30, (3, 9, 9), np.random.default_rng(5)) for _ in range(2))
    assert first == second
    assert len(set(first)) == 30
    one, two = (first[0].images(2, (3, 9, 9), (0, 1), np.random.default_rng(2)) for _ in range(2))
    assert torch.equal(one, two)


def test_bad_shapes():
    for shape in [(5,), (1, 3, 8), (8, 8)]:
        with pytest.raises(InvalidInput, match="4 x 4"):
            draw_families(3, shape, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="channels"):
        Family("disk", 0.0, (0.2, 0.3), (1.0,)).images(1, (3, 8, 8), (0, 1), np.random.default_rng(0))
