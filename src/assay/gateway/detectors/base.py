"""The contract of detectors: one account's stream of queries in, a score and an alarm out.

A detector is a frozen configuration. What it remembers of an account is one bounded byte
string, so that any store can hold it and any replica can go on from it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput

__all__ = ["Detector", "Look", "Seen", "load_state", "save_state"]

_LARGEST = 4 * 1024 * 1024
_LAYOUT = "layout"


@dataclass(frozen=True)
class Seen:
    """Queries of one account, after they were answered.

    Parameters
    ----------
    rows
        The inputs, float ``[n, d]``, flattened.
    labels
        int64 ``[n]``: the classes that the model predicted.

    Raises
    ------
    InvalidInput
        If the two do not fit together.

    Examples
    --------
    >>> len(Seen(np.zeros((2, 3)), np.array([0, 1])))
    2
    """

    rows: NDArray[np.floating]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.labels.shape != self.rows.shape[:1]:  # noqa: PLR2004 - rows and columns
            msg = f"rows must be [n, d] and labels [n], got {self.rows.shape} and {self.labels.shape}"
            raise InvalidInput(msg)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Look:
    """What a detector says after some queries.

    Parameters
    ----------
    state
        What to hand in with the next queries of this account.
    score
        How suspicious the account looks, in the detector's own measure.
    fired
        Whether an alarm is due now. It is not repeated for every further query.
    queries
        Queries of this account that the detector has seen.
    detail
        Numbers for the operator.
    """

    state: bytes
    score: float
    fired: bool
    queries: int
    detail: Mapping[str, float] = field(default_factory=dict)


class Detector(ABC):
    """Base of detectors; subclasses are frozen dataclasses.

    Attributes
    ----------
    name
        Name in a policy.
    """

    name: ClassVar[str]

    @abstractmethod
    def look(self, state: bytes | None, seen: Seen) -> Look:
        """Return what the account looks like after these queries.

        Parameters
        ----------
        state
            What the last look returned, or None for a new account. A state of another
            version or of other settings is begun anew, never trusted.
        seen
            The queries, in order.
        """


def save_state(arrays: Mapping[str, NDArray[Any]], layout: object) -> bytes:
    """Return arrays as one byte string (safetensors).

    Parameters
    ----------
    arrays
        What to keep.
    layout
        The settings under which they mean something, secret included; a digest is kept.

    Examples
    --------
    >>> state = save_state({"a": np.arange(2)}, "v1")
    >>> load_state(state, {"a": ("int64", 1)}, "v1")["a"].tolist()
    [0, 1]
    >>> load_state(state, {"a": ("int64", 1)}, "v2") is None
    True
    """
    from safetensors.numpy import save

    kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save({**kept, _LAYOUT: _digest(layout)})


def load_state(
    state: bytes | None, expected: Mapping[str, tuple[str, int]], layout: object = None
) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a state, or None where it is missing or not one of ours.

    Parameters
    ----------
    state
        What `save_state` returned.
    expected
        For every array its dtype and number of axes.
    layout
        The settings that it must have been kept under; any unless given.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not state or len(state) > _LARGEST:
        return None
    try:
        arrays = load(state)
    except (SafetensorError, ValueError, KeyError):
        return None
    kept = arrays.pop(_LAYOUT, np.zeros(0))
    shapes = {name: (array.dtype.name, array.ndim) for name, array in arrays.items()}
    if shapes != dict(expected) or (layout is not None and not np.array_equal(kept, _digest(layout))):
        return None
    # What was loaded shares its memory with the immutable bytes.
    return {name: array.copy() for name, array in arrays.items()}


def _digest(layout: object) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.sha256(repr(layout).encode()).digest()[:16], dtype=np.uint8)
