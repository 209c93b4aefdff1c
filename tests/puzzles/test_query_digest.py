import struct

import pytest

from assay.errors import InvalidInput
from assay.puzzles.query import QueryTensor, query_digest

RAW = struct.pack("<2f", 1.0, -2.5)


def test_the_published_vector():
    expected = "ff2f4f468bcdbd825d1fb1ce4b1a3ff33cdbd567c3445b192785e47e59567b15"
    assert query_digest([QueryTensor("x", "FP32", (1, 2), RAW)]) == expected
    assert query_digest([QueryTensor("x", "FP32", (1, 2), memoryview(RAW))]) == expected


def test_every_part_counts():
    one = QueryTensor("x", "FP32", (1, 2), RAW)
    others = [
        [QueryTensor("y", "FP32", (1, 2), RAW)],
        [QueryTensor("x", "FP16", (1, 2), RAW)],
        [QueryTensor("x", "FP32", (2, 1), RAW)],
        [QueryTensor("x", "FP32", (2,), RAW)],
        [QueryTensor("x", "FP32", (1, 2), RAW[::-1])],
        [QueryTensor("xF", "P32", (1, 2), RAW)],
        [one, one],
        [],
    ]
    assert len({query_digest(inputs) for inputs in [[one], *others]}) == len(others) + 1


def test_bytes_cannot_move_between_inputs():
    a = [QueryTensor("a", "UINT8", (2,), b"12"), QueryTensor("b", "UINT8", (1,), b"3")]
    b = [QueryTensor("a", "UINT8", (1,), b"1"), QueryTensor("b", "UINT8", (2,), b"23")]
    assert query_digest(a) != query_digest(b)
    assert query_digest(a) != query_digest(a[::-1])


def test_impossible_inputs_are_refused():
    for tensor in (
        QueryTensor("x", "FP32", (-1, 2), RAW),
        QueryTensor("x" * 70_000, "FP32", (2,), RAW),
        QueryTensor("x", "F" * 300, (2,), RAW),
        QueryTensor("x", "FP32", (1,) * 300, RAW),
    ):
        with pytest.raises(InvalidInput):
            query_digest([tensor])
    with pytest.raises(InvalidInput):
        query_digest([QueryTensor("x", "FP32", (2,), RAW)] * 70_000)
