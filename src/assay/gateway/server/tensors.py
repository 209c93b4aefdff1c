"""Input tensors of a request: read strictly, kept as little-endian bytes and as an array.

A gateway that reads a body differently from the server behind it can be fooled about
what it prices. So whatever two readers could read differently is refused here: odd
shapes, numbers outside the datatype, mixed kinds, NaN and infinity.

References
----------
Open Inference Protocol, "REST/HTTP inference protocol", version 2; Triton's "binary
tensor data extension".
"""

from __future__ import annotations

import math
import struct
from array import array as Doubles  # noqa: N812 - numpy's are called arrays here
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.gateway.server.problems import BadQuery, Unacceptable

__all__ = ["DATATYPES", "InputTensor", "check_shape", "from_bytes", "from_numbers"]

MAX_AXES = 8
MAX_SIZE = 2**31 - 1

#: Little-endian numpy types of the datatypes that are read.
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
# What kinds of JSON numbers a datatype takes; whole numbers may stand for floats.
_KINDS: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}


@dataclass(frozen=True)
class InputTensor:
    """One named input.

    Attributes
    ----------
    name, datatype, shape
        As the request states them.
    array
        The values, ``shape``; None for text (``BYTES``).
    text
        The raw bytes of text elements, each with its 32-bit length in front.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: npt.NDArray[Any] | None = None
    text: bytes = b""

    @cached_property
    def raw(self) -> bytes:
        """The values as little-endian bytes in row-major order."""
        return self.text if self.array is None else self.array.tobytes()

    def rows(self) -> list[bytes]:
        """Return the raw bytes of each item (each entry of the first axis).

        Text is not cut: it is one item.
        """
        if self.array is None:
            return [self.text]
        return [row.tobytes() for row in self.array]


def check_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Return a stated shape or raise `BadQuery`.

    Zero is no size: an empty request has nothing to price.
    """
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_AXES:
        msg = f"input {name!r} must state its shape as a list of 1 to {MAX_AXES} sizes"
        raise BadQuery(msg)
    for size in shape:
        if type(size) is not int or not 1 <= size <= MAX_SIZE:
            msg = f"input {name!r} has a size that is no whole number from 1 to {MAX_SIZE}"
            raise BadQuery(msg)
    return tuple(shape)


def from_numbers(
    name: str, datatype: str, shape: tuple[int, ...], data: Any, *, booleans: bool = True
) -> InputTensor:
    """Read a tensor from JSON, nested by row or flat.

    Parameters
    ----------
    name, datatype, shape
        As stated.
    data
        What the JSON holds.
    booleans
        Whether there may be any in it. Without, floats need no look at the kind of each: only
        booleans pass for numbers where numbers are read.

    Raises
    ------
    BadQuery
        If shape, datatype and data do not agree, or a number is outside the datatype.

    Examples
    --------
    >>> from_numbers("x", "FP32", (1, 2), [1.0, -2.5]).raw.hex()
    '0000803f000020c0'
    """
    if not isinstance(data, list):
        msg = f"input {name!r} must hold its data as a list"
        raise BadQuery(msg)
    flat = _unrolled(name, shape, data)
    if datatype == "BYTES":
        return InputTensor(name, datatype, shape, text=_text(name, flat))
    target = _target(name, datatype)
    if (booleans or target.kind != "f") and not set(map(type, flat)) <= _KINDS[target.kind]:
        raise _else(name, datatype)
    if target.kind in "iu":
        bounds = np.iinfo(target)
        if min(flat) < bounds.min or max(flat) > bounds.max:
            msg = f"input {name!r} holds a number outside {datatype}"
            raise BadQuery(msg)
    if target.kind == "f":
        array = _floats(name, datatype, flat, shape)
    else:
        # Straight to whole numbers: left to itself, numpy rounds mixed ones beyond 63 bits to floats.
        array = np.array(flat, dtype=target).reshape(shape)
    return InputTensor(name, datatype, shape, _finite(name, datatype, array))


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> InputTensor:
    """Read a tensor from raw little-endian bytes, without copying numbers.

    Raises
    ------
    BadQuery
        If their number does not agree with shape and datatype.

    Examples
    --------
    >>> from_bytes("x", "INT16", (1, 2), bytes([1, 0, 2, 0])).array.tolist()
    [[1, 2]]
    """
    if datatype == "BYTES":
        _check_text(name, shape, data)
        return InputTensor(name, datatype, shape, text=bytes(data))
    target = _target(name, datatype)
    if math.prod(shape) * target.itemsize != len(data):
        msg = f"input {name!r} needs {math.prod(shape) * target.itemsize} bytes, but has {len(data)}"
        raise BadQuery(msg)
    array: npt.NDArray[Any] = np.frombuffer(data, dtype=target).reshape(shape)
    if target.kind == "b" and int(array.view(np.uint8).max()) > 1:
        msg = f"input {name!r} says BOOL, but holds bytes other than 0 and 1"
        raise BadQuery(msg)
    return InputTensor(name, datatype, shape, _finite(name, datatype, array))


def _floats(name: str, datatype: str, flat: list[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the numbers as floats; whatever is none, but for booleans, is refused."""
    try:
        found = np.frombuffer(Doubles("d", flat), dtype=np.float64)
    except TypeError as error:
        raise _else(name, datatype) from error
    except OverflowError as error:
        msg = f"input {name!r} holds a number outside {datatype}"
        raise BadQuery(msg) from error
    with np.errstate(over="ignore"):  # whoever checks for infinity says it in words
        return found.astype(DATATYPES[datatype]).reshape(shape)


def _else(name: str, datatype: str) -> BadQuery:
    return BadQuery(f"input {name!r} says {datatype}, but its data is something else")


def _target(name: str, datatype: Any) -> np.dtype[Any]:
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        msg = f"input {name!r} must have one of the datatypes {', '.join(DATATYPES)}, BYTES"
        raise Unacceptable(msg)
    return DATATYPES[datatype]


def _finite(name: str, datatype: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # One pass for the usual case; large finite values may overflow the sum.
    if array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            total = array.sum(dtype=np.float64)
        if not math.isfinite(total) and not bool(np.isfinite(array).all()):
            msg = f"input {name!r} holds NaN, infinity, or a number outside {datatype}"
            raise BadQuery(msg)
    return array


def _unrolled(name: str, shape: tuple[int, ...], data: list[Any]) -> list[Any]:
    """Return the numbers in one list; they come in one, or nested exactly as the shape says."""
    level, wanted = 0, math.prod(shape)
    while data and type(data[0]) is list and level + 1 < len(shape):
        fits = len(data) == math.prod(shape[: level + 1])
        level += 1
        if not fits or any(type(row) is not list or len(row) != shape[level] for row in data):
            break
        data = list(chain.from_iterable(data))
    if len(data) != wanted or level not in (0, len(shape) - 1):
        msg = f"input {name!r} says shape {list(shape)}, but its data has another one"
        raise BadQuery(msg)
    return data


def _text(name: str, flat: Sequence[Any]) -> bytes:
    parts: list[bytes] = []
    for element in flat:
        if not isinstance(element, str):
            msg = f"input {name!r} says BYTES, but has an element that is no text"
            raise BadQuery(msg)
        try:
            encoded = element.encode()
        except UnicodeEncodeError as error:
            msg = f"input {name!r} has text that is not valid Unicode"
            raise BadQuery(msg) from error
        parts += [struct.pack("<I", len(encoded)), encoded]
    return b"".join(parts)


def _check_text(name: str, shape: Sequence[int], data: bytes | memoryview) -> None:
    count, at, wanted = 0, 0, math.prod(shape)
    if wanted * 4 > len(data):
        msg = f"input {name!r} has fewer bytes than {wanted} text elements need"
        raise BadQuery(msg)
    while at + 4 <= len(data):
        at += 4 + int(struct.unpack_from("<I", data, at)[0])
        count += 1
    if at != len(data) or count != wanted:
        msg = f"input {name!r} must hold {wanted} text elements, each after its 32-bit length"
        raise BadQuery(msg)
