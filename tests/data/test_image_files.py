from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from assay.data import load_data
from assay.data.cifar import read_cifar
from assay.errors import InvalidInput

image_module = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")


def save(path, array, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image_module.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pets"
    for c, name in enumerate(("cat", "dog")):
        for i in range(2 + c):
            save(root / name / f"{i}.png", pixels(10 * c + i, 6, 8, 3))
    (root / "dog" / "notes.txt").write_text("not an image")
    (root / "dog" / ".hidden.png").write_text("not an image")
    return root


def test_class_folders(folder):
    data = load_data(str(folder))
    assert (data.x.shape, data.classes, data.name) == ((5, 3, 6, 8), ("cat", "dog"), "pets")
    assert data.y.tolist() == [0, 0, 1, 1, 1]
    assert np.array_equal(np.rint(data.x[3].numpy() * 255), pixels(11, 6, 8, 3).transpose(2, 0, 1))
    assert len(load_data(f"{folder}/")) == 5


def test_size_and_channels(folder):
    assert load_data(f"{folder}:size=4").x.shape == (5, 3, 4, 4)
    assert load_data(f"{folder}:size=4,channels=1").x.shape == (5, 1, 4, 4)
    for bad in ("size=0", "size=99999", "channels=2"):
        with pytest.raises(InvalidInput, match="size must be"):
            load_data(f"{folder}:{bad}")


def test_sizes_that_differ_need_a_size(folder):
    save(folder / "dog" / "9.png", pixels(0, 7, 7, 3))
    with pytest.raises(InvalidInput, match=r"9\.png has 7x7 pixels, the first image 6x8; give size="):
        load_data(str(folder))
    assert len(load_data(f"{folder}:size=5")) == 6


def test_parts_share_classes_and_channels(tmp_path):
    root = tmp_path / "set"
    for part, count in (("train", 3), ("test", 1)):
        for c in "abc"[:count]:
            save(root / part / c / "0.png", pixels(ord(c), 4, 4))
    train, test, both = (load_data(str(root), split=s) for s in ("train", "test", "all"))
    assert train.x.shape == (3, 1, 4, 4)
    assert len(both) == 6 - 2
    assert test.y.tolist() == [0]
    assert train.classes == ("a", "b", "c") == both.classes == test.classes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_of_eight_bits_are_read(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    for c in "ab":
        save(tmp_path / "s" / c / f"0.{suffix}", pixels(ord(c), 4, 4, 3), mode)
    data = load_data(str(tmp_path / "s"))
    assert data.x.shape == (2, 1 if mode in "1L" else 3, 4, 4)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deeper_modes_are_refused_instead_of_clipped(tmp_path, dtype):
    for c in "ab":
        save(tmp_path / "s" / c / "0.tif", np.full((4, 4), 1000, dtype))
    with pytest.raises(InvalidInput, match="more than 8 bits"):
        load_data(str(tmp_path / "s"))


def bomb(side):
    """A PNG of a few hundred bytes that claims side x side pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8000, 12_000, 100_000])
def test_decompression_bombs_are_refused_before_decoding(folder, side):
    (folder / "cat" / "0.png").write_bytes(bomb(side))
    with pytest.raises(InvalidInput, match=r"more than 50,000,000|decompression bomb"):
        load_data(str(folder))


def test_the_sum_of_all_images_is_bounded(folder):
    with pytest.raises(InvalidInput, match="over the limit of 500"):
        load_data(f"{folder}:limit=500")


def test_broken_images_and_other_formats_are_refused(folder):
    whole = (folder / "cat" / "0.png").read_bytes()
    for content in (
        b"",
        b"hello",
        whole[: len(whole) // 2],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n",
    ):
        (folder / "cat" / "0.png").write_bytes(content)
        with pytest.raises(InvalidInput, match="as an image"):
            load_data(str(folder))


def test_folders_without_classes_or_images_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="one subfolder per class"):
        load_data(str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(InvalidInput, match="holds no images"):
        load_data(str(tmp_path))


@pytest.fixture
def sheet_folder(tmp_path):
    root = tmp_path / "tiles"
    root.mkdir()
    (root / "classes.txt").write_text("plane\ncar\n")
    for part, count in (("train", 3), ("test", 2)):
        for c in range(2):
            for chunk in range(2):
                strip = pixels(hash((part == "train", c, chunk)) % 1000, count * 8, 8, 3)
                save(root / f"{part}-{c:02d}-{chunk}.webp", strip, lossless=True)
    return root


def test_sheets_of_tiles_are_cut_exactly(sheet_folder):
    train, both = load_data(str(sheet_folder), split="train"), load_data(str(sheet_folder))
    assert (train.x.shape, train.classes, train.name) == ((12, 3, 8, 8), ("plane", "car"), "tiles-train")
    assert train.y.tolist() == [0] * 6 + [1] * 6
    assert (len(both), both.name) == (20, "tiles")
    with image_module.open(sheet_folder / "train-01-1.webp") as image:
        expected = np.asarray(image.convert("RGB"))[8:16].transpose(2, 0, 1)
    assert np.array_equal(np.rint(train.x[10].numpy() * 255), expected)


def test_sheets_that_do_not_fit_are_refused(sheet_folder):
    save(sheet_folder / "train-02-0.webp", pixels(0, 16, 8, 3), lossless=True)
    with pytest.raises(InvalidInput, match="names only 2"):
        load_data(str(sheet_folder))
    (sheet_folder / "train-02-0.webp").unlink()
    for shape in ((9, 8, 3), (12, 6, 3)):
        save(sheet_folder / "train-01-1.webp", pixels(0, *shape), lossless=True)
        with pytest.raises(InvalidInput, match="square tiles"):
            load_data(str(sheet_folder), split="train")
    (sheet_folder / "classes.txt").unlink()
    with pytest.raises(InvalidInput, match=r"classes\.txt"):
        load_data(str(sheet_folder))


@pytest.mark.parametrize("fine", [False, True])
def test_official_binary_cifar(tmp_path, fine):
    rng, skip = np.random.default_rng(0), int(fine)
    records = rng.integers(0, 256, (6, skip + 1 + 3072), dtype=np.uint8)
    records[:, : skip + 1] = rng.integers(0, 3, (6, skip + 1))
    names = "fine_label_names.txt" if fine else "batches.meta.txt"
    files = ["train.bin", "test.bin"] if fine else ["data_batch_1.bin", "test_batch.bin"]
    (tmp_path / names).write_text("ant\nbee\ncow\n\n")
    (tmp_path / files[0]).write_bytes(records[:4].tobytes())
    (tmp_path / files[1]).write_bytes(records[4:].tobytes())
    parts = read_cifar(tmp_path)
    train, test = parts["train"](), parts["test"]()
    assert (train.x.shape, len(test), train.classes) == ((4, 3, 32, 32), 2, ("ant", "bee", "cow"))
    assert train.y.tolist() == records[:4, skip].tolist()
    assert np.array_equal(np.rint(train.x[1].flatten().numpy() * 255), records[1, skip + 1 :])
    (tmp_path / files[1]).write_bytes(records[4:].tobytes()[:-1])
    with pytest.raises(InvalidInput, match="whole number of records"):
        parts["test"]()
    (tmp_path / names).unlink()
    with pytest.raises(InvalidInput, match=names):
        read_cifar(tmp_path)


def test_without_pillow_the_extra_is_named(folder, monkeypatch):
    from assay.errors import MissingDependency

    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingDependency, match=r"assay-ml\[images\]"):
        load_data(str(folder))


def test_a_rotated_photo_is_turned_upright(tmp_path):
    array = np.zeros((4, 8), np.uint8)
    array[0, 0] = 255
    for c in "ab":
        image = image_module.fromarray(array)
        exif = image.getexif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        image.save(buffer, "PNG", exif=exif)
        (tmp_path / c).mkdir()
        (tmp_path / c / "0.png").write_bytes(buffer.getvalue())
    data = load_data(str(tmp_path))
    assert data.x.shape == (2, 1, 8, 4)
    assert data.x[0, 0, 0, 3] == 1
