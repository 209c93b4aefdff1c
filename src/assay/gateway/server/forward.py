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
_SIZE = "binary_data_size"


def without_proof(query: Query) -> Query:
    """Return the request without ``parameters.pow``."""
    if query.proof is None:
        return query
    size = len(query.body) if query.header_length is None else query.header_length
    content = json.loads(query.body[:size])
    del content["parameters"][PROOF]
    head = _text(content)
    return replace(
        query,
        body=head + query.body[size:],
        header_length=None if query.header_length is None else len(head),
        proof=None,
        head={**query.head, "parameters": content["parameters"]},
    )


def in_binary(query: Query) -> Query:
    """Return the request with its tensors as bytes after the JSON, if there is much in the JSON.

    What is asked for as JSON still comes as JSON.
    """
    pairs = list(zip(query.head["inputs"], query.inputs, strict=True))
    if all(_is_binary(one) or math.prod(tensor.shape) < _WORTHWHILE for one, tensor in pairs):
        return query
    inputs = [
        {**one, "parameters": {**one.get("parameters", {}), _SIZE: len(tensor.raw)}} for one, tensor in pairs
    ]
    content = {**query.head, "inputs": inputs}
    head = _text(content)
    body = b"".join((head, *(tensor.raw for tensor in query.inputs)))
    return replace(query, body=body, header_length=len(head), head=content)


def _is_binary(stated: dict[str, Any]) -> bool:
    return _SIZE in stated.get("parameters", {})


def _text(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
