from __future__ import annotations

import pytest
import torch

from assay.data import Augment
from assay.errors import InvalidInput


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def one_by_one(x, augment, seed):
    """The same draws, applied one image at a time by slicing."""
    g, (n, channels, height, width) = generator(seed), x.shape
    flips = torch.rand(n, generator=g) < 0.5 if augment.flip else torch.zeros(n, dtype=torch.bool)
    pad = max(1, min(height, width) // 8)
    shift = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=g)[:, :, 0] if augment.crop else None
    out = []
    for i, image in enumerate(x):
        if shift is not None:
            canvas = torch.zeros(channels, height + 2 * pad, width + 2 * pad)
            canvas[:, pad : pad + height, pad : pad + width] = image
            top, left = shift[0, i], shift[1, i]
            image = canvas[:, top : top + height, left : left + width]  # noqa: PLW2901
        out.append(image.flip(2) if flips[i] else image)
    return torch.stack(out)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(64, 3, 16, 16), (32, 1, 8, 12), (5, 2, 3, 3)])
def test_batch_equals_one_image_at_a_time(crop, flip, shape):
    x, augment = torch.rand(shape), Augment(crop=crop, flip=flip)
    assert torch.equal(augment(x, generator(3)), one_by_one(x, augment, 3))


def test_flip_is_exact_and_hits_about_half():
    x = torch.rand(1000, 1, 4, 6)
    y = Augment(crop=False)(x, generator())
    same, mirrored = (y == x).flatten(1).all(1), (y == x.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 400 < mirrored.sum() < 600


def test_pixels_are_moved_and_never_made():
    # Distinct values: every output pixel is zero padding or one pixel of its own image, none used twice.
    x = torch.arange(1.0, 1 + 20 * 3 * 16 * 16).view(20, 3, 16, 16)
    for before, after in zip(x, Augment()(x, generator(5)), strict=True):
        values = after[after > 0]
        assert set(values.tolist()) <= set(before.flatten().tolist())
        assert len(values.unique()) == len(values)
        assert len(values) >= 3 * 14 * 14


def test_every_shift_occurs_and_none_is_larger_than_an_eighth():
    x = torch.zeros(2000, 1, 16, 16)
    x[:, :, 8, 8] = 1
    y = Augment(flip=False)(x, generator())
    places = {tuple(p) for p in y.nonzero()[:, 2:].tolist()}
    assert places == {(r, c) for r in range(6, 11) for c in range(6, 11)}


def test_neither_crop_nor_flip_changes_nothing_and_input_is_left_alone():
    x = torch.rand(4, 1, 8, 8)
    kept = x.clone()
    assert torch.equal(Augment(crop=False, flip=False)(x, generator()), x)
    Augment()(x, generator())
    assert torch.equal(x, kept)


def test_refuses_what_is_no_image():
    with pytest.raises(InvalidInput, match="channels, height, width"):
        Augment()(torch.rand(4, 8), generator())
