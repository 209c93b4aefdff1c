import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.puzzles.difficulty import bits_of, expected_work, round_bits, target64


@pytest.mark.parametrize(
    ("bits", "k", "target"),
    [
        (16, 1, 281474976710656),
        (18.5, 1, 49758216191607),
        (20.3, 1, 14289295271721),
        (22.75, 1, 2615094101558),
        (16.25, 8, 1893530391196907),
    ],
)
def test_targets_of_the_published_vectors(bits, k, target):
    assert target64(bits, k) == target
    assert bits_of(target, k) == pytest.approx(bits, abs=1e-9)


def test_the_easiest_target_fits_64_bits():
    assert target64(0, 1) == 2**64 - 1
    assert target64(4, 16) == 2**64 - 1


@pytest.mark.parametrize(("bits", "k"), [(3.9, 16), (-1, 1), (63.5, 1), (math.nan, 1), (10, 0)])
def test_impossible_difficulties_are_refused(bits, k):
    with pytest.raises(InvalidInput):
        target64(bits, k)


def test_impossible_targets_are_refused():
    for target, k in ((0, 1), (1 << 64, 1), (5, 0)):
        with pytest.raises(InvalidInput):
            expected_work(target, k)


@given(st.floats(12, 40), st.sampled_from([0.25, 0.5, 1.0]))
def test_rounding_keeps_the_expected_work(bits, step):
    low, high = round_bits(bits, 0.999999999999, step=step), round_bits(bits, 0.0, step=step)
    chance_up = 0.0 if high == low else (2 ** (bits - low) - 1) / (2**step - 1)
    assert math.isclose((1 - chance_up) * 2**low + chance_up * 2**high, 2**bits, rel_tol=1e-9)
    assert low <= bits <= high or math.isclose(low, bits)


def test_rounding_by_chance_has_the_right_mean():
    rng = random.Random(0)
    draws = [2.0 ** round_bits(15.17, rng.random()) for _ in range(20_000)]
    assert math.fsum(draws) / len(draws) == pytest.approx(2**15.17, rel=0.005)
    assert {math.log2(draw) for draw in draws} == {15.0, 15.25}


def test_bad_roundings_are_refused():
    for arguments in ((math.nan, 0.5), (math.inf, 0.5), (12.0, 1.0), (12.0, -0.1)):
        with pytest.raises(InvalidInput):
            round_bits(*arguments)
    with pytest.raises(InvalidInput):
        round_bits(12.0, 0.5, step=0)
