from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from assay.data import Dataset, load_data
from assay.data.bounded import read_npz, read_text
from assay.errors import InvalidInput, UnknownName


class Bomb:
    exploded = False

    def __reduce__(self):
        return (setattr, (Bomb, "exploded", True))


def write_member(path, content, name="x.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def header(shape, dtype="<f4", *, data=b""):
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "<i8", "?", "<U3"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_what_numpy_writes(tmp_path, dtype, order):
    array = np.asarray(np.arange(12).reshape(3, 4).astype(dtype), order=order)
    np.savez_compressed(tmp_path / "a.npz", x=array, empty=np.empty((0, 2)))
    back = read_npz(tmp_path / "a.npz")
    assert np.array_equal(back["x"], array)
    assert back["empty"].shape == (0, 2)


def test_objects_are_refused_and_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([Bomb()], dtype=object), y=np.array([0]))
    with pytest.raises(InvalidInput, match="plain"):
        Dataset.load(tmp_path / "a.npz")
    assert not Bomb.exploded


def test_the_directory_is_believed_before_anything_is_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 1000), np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 5000
    with pytest.raises(InvalidInput, match="over the limit of 100,000"):
        read_npz(tmp_path / "a.npz", limit=100_000)
    with pytest.raises(InvalidInput, match="over the limit"):
        load_data(f"{tmp_path}/a.npz:limit=100000")


@pytest.mark.parametrize("shape", [(10**12,), (3,), (1,), (1, 10**6), (-2, -1), (2**62, 4)])
def test_lying_array_headers_are_refused(tmp_path, shape):
    write_member(tmp_path / "a.npz", header(shape, data=b"\0" * 8))
    with pytest.raises(InvalidInput, match=r"a\.npz"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00", b"nonsense" * 9, header((2,))[:40]]
)
def test_broken_members_are_refused(tmp_path, content):
    write_member(tmp_path / "a.npz", content)
    with pytest.raises(InvalidInput, match=r"a\.npz"):
        read_npz(tmp_path / "a.npz")


def test_broken_archives_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "good.npz", x=np.random.default_rng(0).random(500))
    whole = (tmp_path / "good.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for content in (b"", b"PK", whole[: len(whole) // 2], bytes(damaged)):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(InvalidInput, match=r"bad\.npz"):
            read_npz(tmp_path / "bad.npz")
    with pytest.raises(InvalidInput, match=r"absent\.npz"):
        read_npz(tmp_path / "absent.npz")


def test_x_and_y_are_needed(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)), z=np.zeros(2))
    with pytest.raises(InvalidInput, match="'x' and 'y'"):
        Dataset.load(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros((2, 2)), y=np.array([0, 1]), value_range=np.zeros(3))
    with pytest.raises(InvalidInput, match="two numbers"):
        Dataset.load(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.array([[0.2], [0.9]]), (0, 1)),
        (np.array([[-3.0], [5.0]]), (-3, 5)),
        (np.array([[7.0], [7.0]]), (7, 8)),
    ],
)
def test_a_range_that_is_not_stated_is_observed(tmp_path, x, expected):
    np.savez(tmp_path / "a.npz", x=x, y=np.array([0, 1]))
    assert Dataset.load(tmp_path / "a.npz").value_range == expected


def test_nan_in_a_file_names_the_row(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([[0.0], [np.nan]]), y=np.array([0, 1]))
    with pytest.raises(InvalidInput, match="row 1"):
        Dataset.load(tmp_path / "a.npz")


def keras(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 5, 4), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
        "x_test": rng.integers(0, 256, (2, 5, 4), dtype=np.uint8),
        "y_test": np.array([0, 1], np.uint8),
    }
    arrays.update(changes)
    np.savez(path, **arrays)
    return arrays


def test_keras_archives_have_two_parts(tmp_path):
    arrays = keras(tmp_path / "mnist.npz")
    train, test, both = (load_data(f"{tmp_path}/mnist.npz", split=s) for s in ("train", "test", "all"))
    assert train.x.shape == (6, 1, 5, 4)
    assert np.array_equal(train.x.numpy()[:, 0], arrays["x_train"].astype(np.float32) / np.float32(255))
    assert (len(test), test.num_classes, len(both)) == (2, 3, 8)
    assert (train.name, both.name) == ("mnist-train", "mnist")
    with pytest.raises(UnknownName, match="train"):
        load_data(f"{tmp_path}/mnist.npz", split="trian")


def test_keras_colour_images_become_channels_first(tmp_path):
    x = np.random.default_rng(1).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    keras(tmp_path / "c.npz", x_train=x, y_train=np.arange(6)[:, None] % 3, x_test=x[:2])
    data = load_data(f"{tmp_path}/c.npz", split="train")
    assert data.x.shape == (6, 3, 5, 4)
    assert torch_equal(data.x[4, 2, 1, 3], x[4, 1, 3, 2] / 255)
    keras(tmp_path / "bad.npz", y_train=np.zeros((6, 2), int))
    with pytest.raises(InvalidInput, match="labels must be integers"):
        load_data(f"{tmp_path}/bad.npz", split="train")


def torch_equal(a, b):
    return abs(float(a) - float(b)) < 1e-7


def test_text_is_bounded_and_must_be_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(tmp_path / "a.csv") == "abc"
    with pytest.raises(InvalidInput, match="over the limit"):
        read_text(tmp_path / "a.csv", limit=5)
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_text(tmp_path / "a.csv")
    (tmp_path / "a.csv.gz").write_bytes(b"no gzip at all")
    with pytest.raises(InvalidInput, match=r"a\.csv\.gz"):
        read_text(tmp_path / "a.csv.gz")
