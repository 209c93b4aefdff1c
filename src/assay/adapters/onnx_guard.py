"""Find references to other files inside an ONNX model, without an ONNX library.

An ONNX tensor may live in another file that the model names, by any path or even by a
memory address (onnxruntime's in-memory marker). A model from a stranger has no business
naming either, so such models are refused before the runtime parses them. Only the few
fields that can hold tensors are followed (onnx.proto3: ModelProto, GraphProto,
NodeProto, AttributeProto, SparseTensorProto, FunctionProto).
"""

from __future__ import annotations

from collections.abc import Iterator

from assay.errors import InvalidInput

__all__ = ["refuse_external_data"]

# Message -> {field number: message in that field}.
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types
_MAX_DEPTH = 64


def refuse_external_data(data: bytes, name: str) -> None:
    """Raise `InvalidInput` if an ONNX model keeps tensors outside of ``data``.

    Parameters
    ----------
    data
        A serialised ModelProto.
    name
        How messages call it.

    Raises
    ------
    InvalidInput
        If it does, or if the bytes are no protocol buffer.
    """
    try:
        external = _has_external(memoryview(data), "model", 0)
    except (IndexError, ValueError) as error:
        msg = f"{name} is no ONNX model: {error}"
        raise InvalidInput(msg) from error
    if external:
        msg = (
            f"{name} keeps tensors in other files, which are not read for models of unknown origin; "
            "save it with all tensors inside, with onnx.save(model, path, save_as_external_data=False)"
        )
        raise InvalidInput(msg)


def _has_external(data: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        msg = "graphs are nested too deeply"
        raise ValueError(msg)
    for field, value in _fields(data):
        if kind == "tensor":
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                return True
        elif (inner := _NESTED[kind].get(field)) is not None:
            if not isinstance(value, memoryview):
                msg = f"field {field} of a {kind} has the wrong wire type"
                raise ValueError(msg)
            if _has_external(value, inner, depth + 1):
                return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield field numbers with whole numbers or bytes; fixed-width values come as zero."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield field, value
        elif wire == _BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                msg = "a field is longer than the file"
                raise ValueError(msg)
            yield field, data[at : at + size]
            at += size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
            yield field, 0
        else:
            msg = f"unknown wire type {wire}"
            raise ValueError(msg)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
    msg = "a number is longer than 64 bits"
    raise ValueError(msg)
