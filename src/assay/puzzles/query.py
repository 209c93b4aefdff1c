"""The digest that binds a proof to the very inputs it pays for."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from assay.errors import InvalidInput

__all__ = ["QueryTensor", "query_digest"]

_DOMAIN = b"calpow/q1\0"
_U8, _U16, _U64 = 1 << 8, 1 << 16, 1 << 64


@dataclass(frozen=True, slots=True)
class QueryTensor:
    """One input of a request.

    Attributes
    ----------
    name
        The input's name.
    datatype
        Its type in the Open Inference Protocol, such as ``"FP32"``.
    shape
        Its sizes.
    raw
        Its values, row-major and little-endian; ``BYTES`` in the protocol's binary form.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview


def query_digest(inputs: Sequence[QueryTensor]) -> str:
    """Return SHA-256 over all inputs in their order, every part with its length before it.

    Parameters
    ----------
    inputs
        The inputs of a request.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    InvalidInput
        If there are too many inputs or sizes, or a size is negative.

    Examples
    --------
    >>> raw = struct.pack("<2f", 1.0, -2.5)
    >>> query_digest([QueryTensor("x", "FP32", (1, 2), raw)])[:16]
    'ff2f4f468bcdbd82'
    """
    if len(inputs) >= _U16:
        msg = f"a request has at most {_U16 - 1} inputs, got {len(inputs)}"
        raise InvalidInput(msg)
    total = hashlib.sha256(_DOMAIN + struct.pack(">H", len(inputs)))
    for tensor in inputs:
        name, kind = tensor.name.encode(), tensor.datatype.encode()
        if (
            len(name) >= _U16
            or len(kind) >= _U8
            or len(tensor.shape) >= _U8
            or not all(0 <= size < _U64 for size in tensor.shape)
        ):
            msg = f"the input {tensor.name[:64]!r} has a name, a type or a shape that cannot be sent"
            raise InvalidInput(msg)
        length = memoryview(tensor.raw).nbytes
        total.update(struct.pack(">H", len(name)) + name + struct.pack("B", len(kind)) + kind)
        total.update(struct.pack(f">B{len(tensor.shape)}QQ", len(tensor.shape), *tensor.shape, length))
        total.update(tensor.raw)
    return total.hexdigest()
