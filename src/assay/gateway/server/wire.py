"""Inference requests: from body bytes to checked tensors.

Two readers that disagree about one body are a hole: the gateway would price one thing
and the server behind it compute another. Where the body is forwarded as it came (`forward`), this
reader refuses what others may read differently: repeated or unknown members, constants
that are no JSON, other encodings, shared memory instead of data, left-over bytes.

References
----------
Open Inference Protocol, "REST/HTTP inference protocol", version 2; Triton's "binary
tensor data extension" and "shared-memory extension" (the latter is refused).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from assay.gateway.server.problems import BadQuery, TooLarge, Unacceptable
from assay.gateway.server.tensors import InputTensor, check_shape, from_bytes, from_numbers

__all__ = ["HEADER_LENGTH", "PROOF", "Query", "parse_query", "read_json"]

#: Length of the JSON part of a body with binary tensors after it.
HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_TENSORS = 16
_MAX_TEXT = 256
_MAX_ID = 1024
_MEMBERS = frozenset({"id", "inputs", "outputs", "parameters"})
_TENSOR = frozenset({"name", "datatype", "shape", "data", "parameters"})
_OUTPUT = frozenset({"name", "parameters"})
#: Parameter of a request that holds a proof of work.
PROOF = "pow"
_SHORT_LIST = 64


@dataclass(frozen=True)
class Query:
    """One inference request.

    Attributes
    ----------
    body
        The bytes to forward.
    header_length
        Length of the JSON part, or None if all of it is JSON.
    inputs
        The tensors, in their order.
    n_items
        Size of the first axis, which all inputs share.
    id
        The caller's own mark, which the answer repeats.
    outputs
        Names of the outputs asked for; empty means all.
    binary_outputs
        Which of them are wanted as binary; ``"*"`` stands for all.
    proof
        Text of a proof of work inside the body, or None.
    head
        The JSON part as it was read, without the data of inputs.
    """

    body: bytes
    header_length: int | None
    inputs: tuple[InputTensor, ...]
    n_items: int
    id: str = ""
    outputs: tuple[str, ...] = ()
    binary_outputs: frozenset[str] = frozenset()
    proof: str | None = None
    head: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def parse_query(body: bytes, header_length: int | None = None, *, max_items: int = 64) -> Query:
    """Read a request.

    Parameters
    ----------
    body
        All of it.
    header_length
        Value of the header `HEADER_LENGTH`, if it was sent.
    max_items
        Largest first axis.

    Raises
    ------
    BadQuery
        If it is not a request of the protocol.
    Unacceptable
        If it is one that no gateway takes, such as shared memory.
    TooLarge
        If it has too many tensors or items.

    Examples
    --------
    >>> query = parse_query(
    ...     b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, -2.5]}]}'
    ... )
    >>> query.n_items, query.inputs[0].name
    (1, 'x')
    """
    size = len(body) if header_length is None else header_length
    if size > len(body):
        msg = f"{HEADER_LENGTH} says {size} bytes, but the body has {len(body)}"
        raise BadQuery(msg)
    text = body[:size]
    content = _members(read_json(text), _MEMBERS, "the request")
    booleans = _may_hold_booleans(text)
    blobs = _Blobs(memoryview(body)[size:])
    parameters = _parameters(content, "the request")
    stated = content.get("inputs")
    if not isinstance(stated, list) or not stated:
        msg = "the request must hold a list of inputs"
        raise BadQuery(msg)
    if len(stated) > MAX_TENSORS:
        msg = f"the request has {len(stated)} inputs; at most {MAX_TENSORS} are taken"
        raise TooLarge(msg)
    inputs = tuple(_input(one, blobs, booleans=booleans) for one in stated)
    blobs.finish()
    if len({tensor.name for tensor in inputs}) != len(inputs):
        msg = "two inputs have the same name"
        raise BadQuery(msg)
    items = {tensor.shape[0] for tensor in inputs}
    if len(items) != 1:
        msg = f"the inputs have first axes of different sizes: {sorted(items)}"
        raise BadQuery(msg)
    (n_items,) = items
    if n_items > max_items:
        msg = f"the request has {n_items} items; send at most {max_items} at a time"
        raise TooLarge(msg)
    outputs, binary = _outputs(content, parameters)
    return Query(
        body=body,
        header_length=header_length,
        inputs=inputs,
        n_items=n_items,
        id=_mark(content),
        outputs=outputs,
        binary_outputs=binary,
        proof=_proof(parameters),
        head={**content, "inputs": [{k: v for k, v in one.items() if k != "data"} for one in stated]},
    )


def read_json(raw: bytes) -> Any:
    """Return what JSON text holds, or raise `BadQuery` where readers could disagree.

    Examples
    --------
    >>> read_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    assay.gateway.server.problems.BadQuery: the JSON repeats a member of one object
    """
    try:
        content = from_json(raw, allow_inf_nan=False, cache_strings="none")
        # The fast reader keeps the last of two members with one name. Each member brings one
        # colon, so too many colons send the text to the slow reader, which looks at every pair.
        if (b"\\" in raw and b"\\u" in raw) or raw.count(b":") != _colons(content):
            json.loads(raw.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        msg = "the body is not JSON in UTF-8"
        raise BadQuery(msg) from error
    return content


class _Blobs:
    """Hands out the binary part, piece by piece."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            msg = "the body ends before the binary data that its inputs announce"
            raise BadQuery(msg)
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def finish(self) -> None:
        if self._at != len(self._data):
            msg = f"the body has {len(self._data) - self._at} bytes that belong to no input"
            raise BadQuery(msg)


def _input(stated: Any, blobs: _Blobs, *, booleans: bool) -> InputTensor:
    one = _members(stated, _TENSOR, "an input")
    name = _name(one, "an input")
    parameters = _parameters(one, f"input {name!r}")
    if any(key.startswith("shared_memory") for key in parameters):
        msg = f"input {name!r} points to shared memory; send its data in the request"
        raise Unacceptable(msg)
    shape, datatype = check_shape(name, one.get("shape")), one.get("datatype")
    if not isinstance(datatype, str):
        msg = f"input {name!r} must name its datatype"
        raise BadQuery(msg)
    size = parameters.get("binary_data_size")
    if size is None:
        return from_numbers(name, datatype, shape, one.get("data"), booleans=booleans)
    if type(size) is not int or size < 0 or "data" in one:
        msg = f"input {name!r} must have either data or a binary_data_size that is a number of bytes"
        raise BadQuery(msg)
    return from_bytes(name, datatype, shape, blobs.take(size))


def _may_hold_booleans(text: bytes) -> bool:
    """Return whether ``true`` or ``false`` may stand in data; a letter is found much faster than a word."""
    begin = text.find(b'"data"') + len(b'"data"')
    return b"\\" in text or text.find(b"t", begin) >= 0 or text.find(b"f", begin) >= 0


def _outputs(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    stated = content.get("outputs", [])
    if not isinstance(stated, list):
        msg = "the outputs must be a list"
        raise BadQuery(msg)
    if len(stated) > MAX_TENSORS * 4:
        msg = f"the request asks for {len(stated)} outputs; at most {MAX_TENSORS * 4} are given"
        raise TooLarge(msg)
    names: list[str] = []
    binary: set[str] = {"*"} if _flag(parameters, "binary_data_output") else set()
    for one in stated:
        entry = _members(one, _OUTPUT, "an output")
        name = _name(entry, "an output")
        more = _parameters(entry, f"output {name!r}")
        if any(key.startswith("shared_memory") for key in more):
            msg = f"output {name!r} points to shared memory; it comes in the response only"
            raise Unacceptable(msg)
        if "binary_data" in more:
            binary = (binary | {name}) if _flag(more, "binary_data") else binary - {name}
        names.append(name)
    return tuple(names), frozenset(binary)


def _members(value: Any, allowed: frozenset[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{what} must be a JSON object"
        raise BadQuery(msg)
    unknown = value.keys() - allowed
    if unknown:
        # Readers that ignore case or unknown members would see another request.
        msg = f"{what} has members that the protocol does not know; it knows {', '.join(sorted(allowed))}"
        raise BadQuery(msg)
    return value


def _parameters(entry: Mapping[str, Any], what: str) -> dict[str, Any]:
    found = entry.get("parameters", {})
    if not isinstance(found, dict):
        msg = f"the parameters of {what} must be a JSON object"
        raise BadQuery(msg)
    return found


def _name(entry: Mapping[str, Any], what: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_TEXT:
        msg = f"{what} must have a name of 1 to {_MAX_TEXT} characters"
        raise BadQuery(msg)
    return _sound(name, what)


def _sound(text: str, what: str) -> str:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        msg = f"{what} has text that is not valid Unicode"
        raise BadQuery(msg)
    return text


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    found = parameters.get(name, False)
    if not isinstance(found, bool):
        msg = f"the parameter {name} must be true or false"
        raise BadQuery(msg)
    return found


def _mark(content: Mapping[str, Any]) -> str:
    mark = content.get("id", "")
    if not isinstance(mark, str) or len(mark) > _MAX_ID:
        msg = f"the id must be text of at most {_MAX_ID} characters"
        raise BadQuery(msg)
    return _sound(mark, "the id")


def _proof(parameters: Mapping[str, Any]) -> str | None:
    proof = parameters.get(PROOF)
    if proof is not None and not isinstance(proof, str):
        msg = f"the parameter {PROOF} must be text: token;nonces"
        raise BadQuery(msg)
    return proof


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "the JSON repeats a member of one object"
        raise BadQuery(msg)
    return found


def _colons(value: Any) -> int:
    """Return how many colons the text of a value has if no member is repeated; long lists left out."""
    if isinstance(value, dict):
        return sum(key.count(":") + 1 + _colons(one) for key, one in value.items())
    if isinstance(value, list):
        return sum(map(_colons, value)) if len(value) <= _SHORT_LIST else 0
    return value.count(":") if isinstance(value, str) else 0
