"""Output tensors of an answer: written as JSON or binary, and read where a defence changes them.

References
----------
Open Inference Protocol, "REST/HTTP inference protocol", version 2; Triton's "binary
tensor data extension".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from assay.errors import InvalidInput
from assay.gateway.server.tensors import DATATYPES

__all__ = ["OutputTensor", "Reply", "encode_reply", "read_reply", "with_receipt"]

_MAX_OUTPUTS = 64


@dataclass(frozen=True)
class OutputTensor:
    """One named output.

    Attributes
    ----------
    name, datatype
        As the protocol calls them.
    array
        Its values.
    """

    name: str
    datatype: str
    array: npt.NDArray[Any]


@dataclass(frozen=True)
class Reply:
    """An answer whose numbers can be read.

    Attributes
    ----------
    members
        Everything beside the outputs: model_name, model_version, id, parameters.
    outputs
        The tensors with numbers; text outputs are left out, since a defence cannot
        change them and could be undone by them.
    """

    members: Mapping[str, Any]
    outputs: tuple[OutputTensor, ...]


def encode_reply(
    members: Mapping[str, Any], outputs: Sequence[OutputTensor], binary: frozenset[str] = frozenset()
) -> tuple[bytes, int | None]:
    """Write an answer.

    Parameters
    ----------
    members
        Beside the outputs.
    outputs
        The tensors.
    binary
        Names of those to write as bytes after the JSON; ``"*"`` stands for all.

    Returns
    -------
    tuple of bytes and int or None
        The body, and the length of its JSON part if more follows.

    Examples
    --------
    >>> labels = OutputTensor("labels", "INT64", np.array([3]))
    >>> encode_reply({"model_name": "m"}, [labels])[0]
    b'{"model_name":"m","outputs":[{"name":"labels","datatype":"INT64","shape":[1],"data":[3]}]}'
    """
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for one in outputs:
        entry: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": list(one.array.shape)}
        if "*" in binary or one.name in binary:
            blobs.append(one.array.astype(DATATYPES[one.datatype], copy=False).tobytes())
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = one.array.ravel().tolist()
        entries.append(entry)
    content = {**members, "outputs": entries}
    head = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    return (head + b"".join(blobs), len(head)) if blobs else (head, None)


def read_reply(body: bytes, header_length: int | None) -> Reply:
    """Read an answer of the server behind the gateway.

    Raises
    ------
    InvalidInput
        If it is none of the protocol.
    """
    size = len(body) if header_length is None else header_length
    try:
        content = from_json(body[:size], allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        msg = "the answer is not JSON"
        raise InvalidInput(msg) from error
    entries = content.get("outputs") if isinstance(content, dict) else None
    if not isinstance(entries, list) or len(entries) > _MAX_OUTPUTS:
        msg = "the answer has no proper list of outputs"
        raise InvalidInput(msg)
    outputs: list[OutputTensor] = []
    at = size
    for entry in entries:
        at, output = _output(entry, body, at)
        if output is not None:
            outputs.append(output)
    members = {key: value for key, value in content.items() if key != "outputs"}
    return Reply(members, tuple(outputs))


def with_receipt(
    body: bytes, header_length: int | None, receipt: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """Return an answer with ``parameters.pow_receipt`` in it."""
    size = len(body) if header_length is None else header_length
    content = json.loads(body[:size])
    content["parameters"] = {**(content.get("parameters") or {}), "pow_receipt": dict(receipt)}
    head = json.dumps(content, separators=(",", ":")).encode()
    return head + body[size:], None if header_length is None else len(head)


def _output(entry: Any, body: bytes, at: int) -> tuple[int, OutputTensor | None]:
    """Return where the binary part goes on, and the tensor unless it is text."""
    if not isinstance(entry, dict):
        msg = "an output of the answer is no JSON object"
        raise InvalidInput(msg)
    name, datatype, shape = entry.get("name"), entry.get("datatype"), entry.get("shape")
    size = (entry.get("parameters") or {}).get("binary_data_size")
    piece: bytes | None = None
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(body) - at:
            msg = f"the output {name!r} has no proper size"
            raise InvalidInput(msg)
        piece, at = body[at : at + size], at + size
    if datatype not in DATATYPES:
        return at, None
    try:
        if piece is None:
            flat = np.asarray(entry.get("data"), dtype=DATATYPES[datatype]).ravel()
        else:
            flat = np.frombuffer(piece, dtype=DATATYPES[datatype])
        if not isinstance(shape, list) or math.prod(shape) != flat.size:
            msg = f"the output {name!r} does not have the shape that it states"
            raise InvalidInput(msg)
        return at, OutputTensor(str(name), datatype, flat.reshape(shape))
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"the output {name!r} holds something else than it states"
        raise InvalidInput(msg) from error
