"""Between gRPC's messages and the bodies of the REST form, which everything behind here reads.

One reader checks all requests, whatever door they came in by: what is here only moves bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.errors import InvalidInput
from assay.gateway.rpc.schema import messages
from assay.gateway.server.problems import BadQuery
from assay.gateway.server.tensors import DATATYPES

__all__ = ["STATUS", "body_of", "response_of"]

STATUS: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    410: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    428: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
"""What a refusal is called in gRPC; everything else is ``INTERNAL``."""

_TEXT = "BYTES"
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    _TEXT: "bytes_contents",
}
_WHOLE = "iu"


def body_of(request: Any) -> tuple[bytes, int]:
    """Return the body of a ``ModelInferRequest`` with its tensors as bytes, and the length of its JSON.

    Raises
    ------
    BadQuery
        If the tensors do not stand where their datatypes say.
    """
    raw = list(request.raw_input_contents)
    if raw and (len(raw) != len(request.inputs) or any(one.HasField("contents") for one in request.inputs)):
        msg = "raw_input_contents must hold all inputs, or none of them"
        raise BadQuery(msg)
    blobs = raw or [_packed(one) for one in request.inputs]
    inputs = [
        {
            "name": one.name,
            "datatype": one.datatype,
            "shape": list(one.shape),
            "parameters": {**_plain(one.parameters), "binary_data_size": len(blob)},
        }
        for one, blob in zip(request.inputs, blobs, strict=True)
    ]
    content: dict[str, Any] = {"inputs": inputs}
    if request.id:
        content["id"] = request.id
    content["parameters"] = {**_plain(request.parameters), "binary_data_output": True}
    if request.outputs:
        content["outputs"] = [
            {"name": one.name, "parameters": {**_plain(one.parameters), "binary_data": True}}
            for one in request.outputs
        ]
    try:
        head = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        msg = "a parameter is no finite number"
        raise BadQuery(msg) from error
    return b"".join((head, *blobs)), len(head)


def response_of(body: bytes, header_length: int | None) -> Any:
    """Return an answer as a ``ModelInferResponse``, all of its tensors as bytes.

    Raises
    ------
    InvalidInput
        If the answer is none of the protocol.
    """
    size = len(body) if header_length is None else header_length
    made = messages().ModelInferResponse()
    try:
        content = json.loads(body[:size])
        made.model_name, made.model_version = content.get("model_name", ""), content.get("model_version", "")
        made.id = content.get("id", "")
        _fill(made.parameters, content.get("parameters") or {})
        at = size
        for entry in content["outputs"]:
            length = (entry.get("parameters") or {}).get("binary_data_size")
            if length is None:
                blob = _from_json(entry)
            else:
                blob, at = body[at : at + length], at + length
                if len(blob) != length:
                    msg = "the answer ends before its outputs do"
                    raise InvalidInput(msg)
            output = made.outputs.add(name=entry["name"], datatype=entry["datatype"], shape=entry["shape"])
            _fill(output.parameters, entry.get("parameters") or {})
            made.raw_output_contents.append(blob)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        msg = "the answer is none of the inference protocol"
        raise InvalidInput(msg) from error
    return made


def _packed(one: Any) -> bytes:
    """Return typed contents as little-endian bytes; numbers outside the datatype are refused."""
    field = _CONTENTS.get(one.datatype)
    filled = [found.name for found, _ in one.contents.ListFields()]
    if field is None or filled not in ([], [field]):
        msg = f"input {one.name!r} of datatype {one.datatype!r} must come in " + (
            "raw_input_contents" if field is None else field
        )
        raise BadQuery(msg)
    values = getattr(one.contents, field)
    if one.datatype == _TEXT:
        return _text(values)
    kind = DATATYPES[one.datatype]
    if kind.kind in _WHOLE and len(values):
        bounds = np.iinfo(kind)
        if min(values) < bounds.min or max(values) > bounds.max:
            msg = f"input {one.name!r} holds a number outside {one.datatype}"
            raise BadQuery(msg)
    return np.asarray(values, dtype=kind).tobytes()


def _text(values: Sequence[bytes]) -> bytes:
    return b"".join(part for value in values for part in (struct.pack("<I", len(value)), value))


def _from_json(entry: Mapping[str, Any]) -> bytes:
    if entry["datatype"] == _TEXT:
        return _text([value.encode() for value in np.asarray(entry["data"], dtype=object).ravel()])
    return np.asarray(entry["data"], dtype=DATATYPES[entry["datatype"]]).tobytes()


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(value, choice)
    return found


def _fill(parameters: Any, given: Mapping[str, Any]) -> None:
    """Write parameters; what has no form of its own, such as a receipt, becomes JSON text."""
    for name, value in given.items():
        if name == "binary_data_size":
            continue
        made = parameters[name]
        if isinstance(value, bool):
            made.bool_param = value
        elif isinstance(value, int):
            made.int64_param = value
        elif isinstance(value, float):
            made.double_param = value
        else:
            made.string_param = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
