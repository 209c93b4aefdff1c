import math

import pytest
import torch

from assay.data import Dataset, load_data
from assay.data.pools import POOLS, blurred, foreign, synthesise
from assay.errors import InvalidInput


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=60)


def _table(n=40):
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(2)) * torch.tensor(
        [1.0, 9.0, 0.1, 1.0, 1.0]
    )
    return Dataset(x, torch.zeros(n, dtype=torch.int64), ("a", "b"), (-math.inf, math.inf), "table")


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("rows", [1, 60, 150])
def test_a_pool_has_the_shape_range_and_rows_asked_for(digits, kind, rows):
    pool = synthesise(digits, kind, rows, rng=3)
    assert pool.x.shape == (rows, 1, 8, 8)
    assert pool.classes == digits.classes
    assert pool.value_range == digits.value_range
    assert int(pool.y.abs().sum()) == 0
    assert torch.equal(pool.x, synthesise(digits, kind, rows, rng=3).x)
    assert not torch.equal(pool.x, synthesise(digits, kind, rows, rng=4).x)


@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_does_not_touch_what_it_is_made_from(digits, kind):
    before = digits.x.clone()
    synthesise(digits, kind, 100)
    assert torch.equal(digits.x, before)


@pytest.mark.parametrize("kind", POOLS)
def test_tables_without_limits_stay_inside_what_was_observed(kind):
    table = _table()
    pool = synthesise(table, kind, 200)
    assert (pool.x >= table.x.amin(0)).all()
    assert (pool.x <= table.x.amax(0)).all()


def test_noise_knows_nothing_but_the_range(digits):
    other = Dataset(1 - digits.x, digits.y, digits.classes)
    assert torch.equal(synthesise(digits, "noise", 30).x, synthesise(other, "noise", 30).x)
    assert float(synthesise(digits, "noise", 500).x.mean()) == pytest.approx(0.5, abs=0.01)


def test_inversions_undo_themselves(digits):
    pool = synthesise(digits, "inversions", 60)
    originals = {row.numpy().tobytes() for row in digits.x}
    assert {(1 - row).numpy().tobytes() for row in pool.x} == originals


def test_blends_are_means_of_two_rows(digits):
    two = digits.subset([0, 1])
    rows = {row.numpy().tobytes() for row in synthesise(two, "blends", 50).x}
    expected = {two.x[0].numpy().tobytes(), two.x[1].numpy().tobytes(), two.x.mean(0).numpy().tobytes()}
    assert rows == expected


def test_shuffles_keep_every_pixel_of_an_image(digits):
    pool = synthesise(digits, "shuffles", 60)
    wanted = {tuple(row.flatten().sort()[0].tolist()) for row in digits.x}
    assert {tuple(row.flatten().sort()[0].tolist()) for row in pool.x} == wanted
    whole = {row.numpy().tobytes() for row in digits.x}
    assert sum(row.numpy().tobytes() in whole for row in pool.x) <= 2


def test_shuffled_tables_keep_their_columns_and_lose_what_ties_them():
    x = torch.arange(50.0)[:, None].repeat(1, 3) / 49
    tied = Dataset(x, torch.zeros(50, dtype=torch.int64), ("a", "b"))
    shuffled = synthesise(tied, "shuffles", 2000).x
    assert set(shuffled.flatten().tolist()) == set(x.flatten().tolist())
    assert abs(float(torch.corrcoef(shuffled.T)[0, 1])) < 0.1


def test_sign_noise_moves_every_pixel_by_a_tenth(digits):
    grey = Dataset(torch.full((20, 1, 8, 8), 0.5), digits.y[:20], digits.classes)
    moved = (synthesise(grey, "sign-noise", 20).x - 0.5).abs()
    assert torch.allclose(moved, torch.full_like(moved, 0.1))


def test_wrong_pools_are_refused(digits):
    with pytest.raises(InvalidInput, match="did you mean 'noise'"):
        synthesise(digits, "noize", 3)
    with pytest.raises(InvalidInput, match="at least 1 row"):
        synthesise(digits, "noise", 0)
    with pytest.raises(InvalidInput, match="at least 1 row"):
        synthesise(digits.subset([]), "noise", 3)


def test_foreign_images_take_the_victims_shape(digits):
    colour = Dataset(torch.rand(5, 3, 32, 32), torch.zeros(5, dtype=torch.int64), ("x", "y"))
    grey = foreign(colour, (1, 8, 8), digits.classes)
    assert (grey.x.shape, grey.classes) == ((5, 1, 8, 8), digits.classes)
    back = foreign(digits, (3, 32, 32), 7)
    assert (back.x.shape, back.num_classes) == ((60, 3, 32, 32), 7)
    assert torch.equal(back.x[:, 0], back.x[:, 2])
    assert float(back.x.mean()) == pytest.approx(float(digits.x.mean()), abs=0.01)


def test_foreign_ranges_and_tables(digits):
    doubled = foreign(digits, (1, 8, 8), 10, value_range=(-1.0, 1.0))
    assert torch.allclose(doubled.x, 2 * digits.x - 1)
    wide = foreign(_table(), (7,), 2)
    assert torch.equal(wide.x[:, 5], _table().x[:, 0])
    with pytest.raises(InvalidInput, match="cannot become"):
        foreign(_table(), (1, 8, 8), 2)


def test_blurring_keeps_the_mean_and_loses_the_detail(digits):
    soft = blurred(digits)
    assert torch.equal(soft.y, digits.y)
    assert float(soft.x.mean()) == pytest.approx(float(digits.x.mean()), rel=0.05)
    assert float(soft.x.std()) < float(blurred(digits, share=0.5).x.std()) < float(digits.x.std())
    assert float(blurred(_table()).x.std()) < float(_table().x.std())
    with pytest.raises(InvalidInput):
        blurred(digits, share=0)
