from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from assay.data import load_data
from assay.data.idx import read_idx
from assay.errors import InvalidInput, UnknownName

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def content(array, *, shape=None, code=None):
    shape = array.shape if shape is None else shape
    code = CODES[array.dtype.str[1:]] if code is None else code
    head = bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, array, **lies):
    data = content(array, **lies)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    place = tmp_path / "tiny-mnist"
    place.mkdir()
    for stem, n, suffix in (("train", 7, ""), ("t10k", 3, ".gz")):
        write(place / f"{stem}-images-idx3-ubyte{suffix}", rng.integers(0, 256, (n, 4, 5), dtype=np.uint8))
        write(
            place / f"{stem}-labels-idx1-ubyte{suffix}", (np.arange(n) % (4 if n > 3 else 2)).astype(np.uint8)
        )
    return place


@pytest.mark.parametrize("dtype", list(CODES))
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_type_comes_back(tmp_path, dtype, suffix):
    array = (np.arange(24).reshape(2, 3, 4) - (5 if dtype != "u1" else 0)).astype(dtype)
    path = tmp_path / f"any-idx3-ubyte{suffix}"
    write(path, array)
    assert np.array_equal(read_idx(path), array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends after 0 of 4"),
        (b"\0\0\x08", "ends after 3 of 4"),
        (b"\1\0\x08\x01" + b"\0" * 8, "magic number is 01000801"),
        (b"\0\0\x0a\x01" + b"\0" * 8, "magic"),
        (b"\0\0\x08\x00", "magic"),
        (b"\0\0\x08\xff" + b"\1" * 2000, "magic"),
        (b"\0\0\x08\x03\0\0\0\1", "ends after 4 of 12"),
        (content(np.zeros(5, np.uint8), shape=(6,)), "ends after 5 of 6"),
        (content(np.zeros(5, np.uint8), shape=(4,)), "continues after the data"),
        (content(np.zeros(5, np.uint8), shape=(2**32 - 1, 2**32 - 1)), "over the limit"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_headers_that_lie_are_refused(tmp_path, data, message, suffix):
    path = tmp_path / f"bad-idx3-ubyte{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    with pytest.raises(InvalidInput, match=message):
        read_idx(path)


def test_the_limit_holds_before_unpacking(tmp_path):
    path = tmp_path / "bomb-idx3-ubyte.gz"
    write(path, np.zeros((100, 100, 100), np.uint8))
    with pytest.raises(InvalidInput, match="over the limit of 1,000"):
        read_idx(path, limit=1000)


def test_damaged_gzip_is_refused(tmp_path):
    path = tmp_path / "bad-idx1-ubyte.gz"
    data = gzip.compress(content(np.arange(200, dtype=np.uint8)))
    for damaged in (data[:-20], b"not gzip", data[:60] + b"\0\1\2" + data[63:]):
        path.write_bytes(damaged)
        with pytest.raises(InvalidInput, match="corrupt"):
            read_idx(path)


def test_a_folder_has_parts_that_agree_on_the_classes(folder):
    train, test, both = (load_data(str(folder), split=s) for s in ("train", "test", None))
    assert train.x.shape == (7, 1, 4, 5)
    assert train.classes == test.classes == ("0", "1", "2", "3")
    assert (len(both), both.name, test.name) == (10, "tiny-mnist", "tiny-mnist-test")
    raw = read_idx(folder / "t10k-images-idx3-ubyte.gz")
    assert np.array_equal(np.rint(test.x.numpy()[:, 0] * 255), raw)


def test_an_images_file_finds_its_labels(folder):
    assert load_data(f"{folder}/train-images-idx3-ubyte").y.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert len(load_data(f"idx:{folder}/t10k-images-idx3-ubyte.gz")) == 3
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InvalidInput, match="expected train-labels-idx1-ubyte or"):
        load_data(f"{folder}/train-images-idx3-ubyte")


def test_an_unknown_part_is_refused(folder):
    with pytest.raises(UnknownName, match="train"):
        load_data(str(folder), split="training")


def test_images_and_labels_must_fit(folder):
    write(folder / "train-labels-idx1-ubyte", np.zeros(6, np.uint8))
    with pytest.raises(InvalidInput, match="are no bytes"):
        load_data(str(folder), split="train")


def test_a_reader_told_to_read_something_else_says_so(tmp_path):
    (tmp_path / "photo.txt").write_text("hello")
    with pytest.raises(InvalidInput, match="named like"):
        load_data(f"idx:{tmp_path}/photo.txt")
    with pytest.raises(InvalidInput, match="holds no train-images"):
        load_data(f"idx:{tmp_path}")
