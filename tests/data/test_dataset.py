from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from assay.data import Dataset
from assay.errors import InvalidInput


def tiny(n=6, **changes):
    fields = {"x": torch.rand(n, 3), "y": torch.arange(n) % 2, "classes": ("a", "b")}
    return Dataset(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((6, 3))}, "torch tensors"),
        ({"x": torch.zeros(6, 3, dtype=torch.float64)}, "float32"),
        ({"x": torch.zeros(6)}, "float32"),
        ({"y": torch.zeros(5, dtype=torch.int64)}, "int64 \\[6\\]"),
        ({"y": torch.zeros(6)}, "int64"),
        ({"classes": ("a",)}, "2 classes"),
        ({"value_range": (1.0, 1.0)}, "low < high"),
        ({"value_range": (0.0, float("nan"))}, "low < high"),
        ({"x": torch.full((6, 3), 2.0)}, "outside its value range"),
        ({"x": torch.tensor([[0.0]] * 5 + [[float("nan")]])}, "row 5"),
        ({"x": torch.tensor([[float("inf")]] + [[0.0]] * 5)}, "row 0"),
        ({"y": torch.tensor([0, 1, 2, 0, 0, 0])}, "label 2"),
        ({"y": torch.tensor([0, 1, -1, 0, 0, 0])}, "label -1"),
    ],
)
def test_refuses_what_downstream_could_not_use(changes, message):
    with pytest.raises(InvalidInput, match=message):
        tiny(**changes)


def test_digest_depends_on_content_and_not_on_the_types_that_carry_it():
    data = tiny()
    same = Dataset(data.x.clone(), data.y, (np.str_("a"), "b"), (np.float64(0), 1), "another name")
    assert same.digest == data.digest
    changed = data.x.clone()
    changed[3, 1] += 1e-6
    assert Dataset(changed, data.y, data.classes).digest != data.digest
    assert data.relabelled(1 - data.y).digest != data.digest
    assert Dataset(data.x, data.y, ("a", "c")).digest != data.digest
    assert Dataset(data.x, data.y, data.classes, (0.0, 2.0)).digest != data.digest
    strided = torch.rand(3, 6).T
    assert (
        Dataset(strided, data.y, data.classes).digest == Dataset(strided.clone(), data.y, data.classes).digest
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([(0.0, 1.0), (-1.0, 1.0)]))
def test_a_saved_set_comes_back_bit_for_bit(tmp_path_factory, seed, pixels, value_range):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (5, 1, 3, 3)) / 255 if pixels else rng.uniform(*value_range, (5, 1, 3, 3))
    data = Dataset.from_arrays(x.astype(np.float32), rng.integers(0, 2, 5), ["no", "yes"], value_range)
    path = tmp_path_factory.mktemp("npz") / "set.npz"
    data.save(path)
    again = Dataset.load(path)
    assert again.digest == data.digest
    assert (again.name, again.classes, again.value_range) == ("set", data.classes, data.value_range)


def test_bytes_are_stored_as_bytes_and_negative_zero_is_kept(tmp_path):
    data = Dataset.from_arrays(np.arange(256, dtype=np.uint8).reshape(64, 4), np.arange(64) % 2)
    data.save(tmp_path / "bytes.npz")
    with np.load(tmp_path / "bytes.npz") as archive:
        assert archive["x"].dtype == np.uint8
    signed = Dataset(torch.tensor([[-0.0], [1.0]]), torch.tensor([0, 1]), ("a", "b"))
    signed.save(tmp_path / "signed.npz")
    assert Dataset.load(tmp_path / "signed.npz").digest == signed.digest


def test_subset_takes_positions_and_masks_and_refuses_the_rest():
    data = tiny()
    assert torch.equal(data.subset([4, 0]).x, data.x[[4, 0]])
    assert torch.equal(data.subset(data.y == 1).x, data.x[1::2])
    assert torch.equal(data.subset(np.array([-1])).x, data.x[5:])
    assert len(data.subset([])) == 0
    for bad in ([6], [-7], [0.5], [True, False], [[0, 1]], torch.zeros(6, dtype=torch.uint8)):
        with pytest.raises(InvalidInput, match="positions below 6"):
            data.subset(bad)


def test_from_arrays_never_shares_memory_with_its_caller():
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    data = Dataset.from_arrays(x, y)
    x[:], y[:] = 1, 0
    assert data.x.sum() == 0
    assert data.y.tolist() == [0, 1]


def test_concat_keeps_order_and_refuses_other_classes():
    data = tiny()
    both = data.subset([0, 1]).concat(data.subset([2]))
    assert torch.equal(both.x, data.x[:3])
    with pytest.raises(InvalidInput, match="differ"):
        data.concat(tiny(classes=("a", "z")))


def test_batches_cover_every_row_once():
    data = tiny(7)
    parts = list(data.batches(3))
    assert [len(x) for x, _ in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([x for x, _ in parts]), data.x)
