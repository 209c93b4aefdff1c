"""Dividing private data among teachers: disjoint, even, decided by the rows themselves."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from assay.data.dataset import Dataset
from assay.errors import InvalidInput

__all__ = ["disjoint_parts"]

_LEAST_ROWS = 2


def disjoint_parts(data: Dataset, parts: int, rng: int = 0) -> tuple[NDArray[np.int64], ...]:
    """Divide the rows of ``data`` into parts of even size.

    Rows are ordered by a keyed hash of input and label, and cut. Hence a row's place does
    not depend on the order of the file, and equal rows share a part: what one of them
    taught, no other teacher knows.

    Parameters
    ----------
    data
        The private set.
    parts
        How many, at least 2, each of at least 2 rows.
    rng
        Key of the hash.

    Returns
    -------
    tuple of numpy.ndarray
        Positions of the rows, int64, disjoint, together all rows; sizes differ by at
        most 1 where no rows are equal.

    Raises
    ------
    InvalidInput
        If there are too few different rows.

    Examples
    --------
    >>> from assay.data import load_data
    >>> [len(part) for part in disjoint_parts(load_data("wine"), 4)]
    [44, 45, 44, 45]
    """
    if parts < _LEAST_ROWS or len(data) < _LEAST_ROWS * parts:
        msg = (
            f"{data.name} has {len(data)} rows, which cannot teach {parts} teachers; use 2 to "
            f"{max(len(data) // _LEAST_ROWS, _LEAST_ROWS)} teachers"
        )
        raise InvalidInput(msg)
    key = hashlib.sha256(f"parts/{rng}".encode()).digest()
    rows = np.ascontiguousarray(data.x.detach().cpu().numpy())
    labels = np.ascontiguousarray(data.y.cpu().numpy())
    names = np.array([_name(row, label, key) for row, label in zip(rows, labels, strict=True)])
    order = np.argsort(names, kind="stable").astype(np.int64)
    ranked = names[order]
    cuts = []
    for part in range(1, parts):
        cut = part * len(order) // parts
        while cut < len(order) and ranked[cut] == ranked[cut - 1]:
            cut += 1
        cuts.append(cut)
    result = tuple(np.split(order, cuts))
    if min(map(len, result)) < 1:
        msg = f"{data.name} has too many equal rows for {parts} teachers; use fewer teachers"
        raise InvalidInput(msg)
    return result


def _name(row: np.ndarray, label: np.integer, key: bytes) -> bytes:
    # Hexadecimal, because numpy cuts trailing zero bytes off its byte strings.
    return hashlib.blake2b(row.tobytes() + label.tobytes(), key=key, digest_size=16).hexdigest().encode()
