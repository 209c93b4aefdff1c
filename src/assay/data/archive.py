"""NumPy archives: our own, and the kind that Keras distributes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from assay.data.bounded import MAX_BYTES, read_npz
from assay.data.catalogue import Card, Parts, source
from assay.data.dataset import Dataset
from assay.errors import InvalidInput

__all__ = ["npz"]

_CHANNELS = (1, 3)


@source("npz", Card("file", "arrays x, y, or x_train, y_train, x_test, y_test", "npz:PATH or PATH.npz"))
def npz(path: str, limit: int = MAX_BYTES) -> Dataset | Parts:
    """NumPy archive with x and y, or with x_train, y_train, x_test and y_test.

    Parameters
    ----------
    path
        The file. In the second layout grey images may lack the channel axis, and
        colour images may have it last; both are brought to channels first.
    limit
        Largest uncompressed size, in bytes.

    Returns
    -------
    Dataset or Parts
        One set for x and y, two parts otherwise.

    Raises
    ------
    InvalidInput
        If the file cannot be read or has neither layout.
    """
    arrays = read_npz(path, limit)
    name = Path(path).stem
    if not {"x_train", "y_train", "x_test", "y_test"} <= set(arrays):
        return Dataset.from_archive(arrays, str(path), name)
    labels = {part: _flat(arrays[f"y_{part}"]) for part in ("train", "test")}
    classes = [str(c) for c in range(max(2, 1 + max(int(y.max(initial=0)) for y in labels.values())))]
    pixels = {part: _channels_first(arrays[f"x_{part}"]) for part in labels}
    whole = (
        Dataset.span(*pixels.values())  # one range for both parts, or they could not be pooled
    )
    return {
        part: partial(Dataset.from_arrays, pixels[part], labels[part], classes, whole, f"{name}-{part}")
        for part in labels
    }


def _flat(y: np.ndarray) -> np.ndarray:
    if y.dtype.kind not in "iu" or y.size != len(y):
        msg = f"labels must be integers [n] or [n, 1], got {y.dtype} {list(y.shape)}"
        raise InvalidInput(msg)
    return y.reshape(-1)


def _channels_first(x: np.ndarray) -> np.ndarray:
    if x.ndim == 3:  # noqa: PLR2004 - [n, height, width]
        return x[:, None]
    if x.ndim == 4 and x.shape[3] in _CHANNELS and x.shape[1] not in _CHANNELS:  # noqa: PLR2004
        return x.transpose(0, 3, 1, 2)
    return x
