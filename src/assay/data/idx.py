"""IDX files: the format of MNIST, Fashion-MNIST, EMNIST and KMNIST."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import numpy as np

from assay.data.bounded import MAX_BYTES, check_size, open_plain, read_end, read_exactly
from assay.data.catalogue import Card, Parts, source
from assay.data.dataset import Dataset
from assay.errors import InvalidInput

__all__ = ["idx", "is_idx", "read_idx"]

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_AXES = 8
_NAME = re.compile(r"^(?P<stem>.*?)(?P<kind>images)(?P<rest>[-.]idx3-ubyte(\.gz)?)$")
_PARTS = {"train": "train", "t10k": "test", "test": "test"}


def read_idx(path: str | Path, limit: int = MAX_BYTES) -> np.ndarray:
    """Read one IDX file, plain or ``.gz``.

    Parameters
    ----------
    path
        The file.
    limit
        Largest uncompressed size of the array, in bytes.

    Returns
    -------
    numpy.ndarray
        The array, in the file's own type.

    Raises
    ------
    InvalidInput
        If the magic number, the sizes or the length of the file do not agree.

    References
    ----------
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits", file formats.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "three-labels-idx1-ubyte")
    ...     _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    ...     read_idx(file).tolist()
    [5, 0, 4]
    """
    with open_plain(path) as file:
        magic = read_exactly(file, 4, f"the IDX header of {path}")
        axes = magic[3]
        if magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= axes <= _MAX_AXES:
            msg = f"{path} is no IDX file: its magic number is {magic.hex()}"
            raise InvalidInput(msg)
        shape = struct.unpack(f">{axes}I", read_exactly(file, 4 * axes, f"the IDX header of {path}"))
        dtype = np.dtype(_TYPES[magic[2]])
        size = math.prod(shape) * dtype.itemsize
        check_size(size, limit, str(path))
        content = read_exactly(file, size, str(path))
        read_end(file, str(path))
    return np.frombuffer(content, dtype).reshape(shape)


def is_idx(path: Path) -> bool:
    """Whether ``path`` is named like a file of IDX images, or is a folder with such files."""
    if path.is_dir():
        return any(_NAME.match(p.name) for p in path.iterdir())
    return _NAME.match(path.name) is not None


@source(
    "idx", Card("file", "grey images", "idx:PATH, a folder or an images file with its labels file beside it")
)
def idx(path: str) -> Dataset | Parts:
    """IDX images with the labels file beside them.

    Parameters
    ----------
    path
        ``...-images-idx3-ubyte[.gz]``, or a folder that has ``train-`` and ``t10k-``
        (or ``test-``) files.

    Returns
    -------
    Dataset or Parts
        Images ``[n, 1, height, width]`` in [0, 1].

    Raises
    ------
    InvalidInput
        If images and labels are missing or do not fit together.
    """
    place = Path(path)
    if not place.is_dir():
        return _pair(place, 2, place.parent.name or place.name)
    found: dict[str, Path] = {}
    for file in sorted(place.iterdir()):
        match = _NAME.match(file.name)
        part = _PARTS.get(match["stem"].rstrip("-.")) if match else None
        if part:
            # A plain file sorts before its .gz twin and wins.
            found.setdefault(part, file)
    if not found:
        msg = f"{place} holds no train-images-idx3-ubyte or t10k-images-idx3-ubyte file, plain or .gz"
        raise InvalidInput(msg)
    # One list of classes for all parts, whatever classes each of them happens to contain.
    classes = max(_count_classes(_labels_beside(file)) for file in found.values())
    return {
        part: lambda file=file, part=part: _pair(file, classes, f"{place.name}-{part}")  # type: ignore[misc]  # bound per part
        for part, file in sorted(found.items(), reverse=True)
    }


def _labels_beside(images: Path) -> Path:
    match = _NAME.match(images.name)
    if match is None:
        msg = f"{images} is not named like ...-images-idx3-ubyte[.gz], so its labels file cannot be found"
        raise InvalidInput(msg)
    stem = match["stem"] + "labels" + match["rest"].replace("idx3", "idx1").removesuffix(".gz")
    for name in (stem, f"{stem}.gz"):
        if (images.parent / name).is_file():
            return images.parent / name
    msg = f"{images} has no labels file beside it; expected {stem} or {stem}.gz"
    raise InvalidInput(msg)


def _count_classes(labels: Path) -> int:
    y = read_idx(labels)
    return max(2, int(y.max()) + 1 if y.size else 2)


def _pair(images: Path, classes: int, name: str) -> Dataset:
    labels = _labels_beside(images)
    x, y = read_idx(images), read_idx(labels)
    if x.dtype != np.uint8 or x.ndim != 3 or y.dtype != np.uint8 or y.shape != x.shape[:1]:  # noqa: PLR2004
        shapes = f"{x.dtype} {list(x.shape)} and {y.dtype} {list(y.shape)}"
        msg = f"{images} and {labels} are no bytes [n, height, width] and [n]: {shapes}"
        raise InvalidInput(msg)
    classes = max(classes, int(y.max()) + 1 if y.size else 2)
    return Dataset.from_arrays(x[:, None], y, [str(c) for c in range(classes)], name=name)
