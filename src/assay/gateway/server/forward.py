"""What the server behind the gateway is sent: the caller's request, less what is not its business.

A server that says that it takes binary tensors is sent them, whatever the caller wrote: the numbers
have been read, to price them, and need not be read from text a second time. It also computes exactly
what was priced.

References
----------
Triton Inference Server, "binary tensor data extension" of the Open Inference Protocol.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from assay.gateway.server.wire import PROOF, Query

__all__ = ["in_binary", "without_proof"]

_WORTHWHILE = 64  # numbers in text; with fewer it costs as much as it saves
_BINARY_SIZE = "binary_data_size"


def without_proof(query: Query) -> Query:
    """Return the request without ``parameters.pow``."""
    if query.proof is None:
        return query
    rest = {name: value for name, value in query.head["parameters"].items() if name != PROOF}
    content = {**query.head, "parameters": rest}
    head = _text(content)
    size = query.header_length
    if size is None:
        return replace(query, body=head, proof=None, head=content)
    return replace(query, body=head + query.body[size:], header_length=len(head), proof=None, head=content)


def in_binary(query: Query) -> Query:
    """Return the request with its tensors as bytes after the JSON, if there is much in the JSON.

    What is asked for as JSON still comes as JSON.
    """
    pairs = list(zip(query.head["inputs"], query.inputs, strict=True))
    if not any("data" in one and math.prod(tensor.shape) >= _WORTHWHILE for one, tensor in pairs):
        return query
    inputs = []
    for one, tensor in pairs:
        parameters = {**one.get("parameters", {}), _BINARY_SIZE: len(tensor.raw)}
        inputs.append(
            {name: one[name] for name in ("name", "shape", "datatype")} | {"parameters": parameters}
        )
    content = {**query.head, "inputs": inputs}
    head = _text(content)
    body = b"".join((head, *(tensor.raw for tensor in query.inputs)))
    return replace(query, body=body, header_length=len(head), head=content)


def _text(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
