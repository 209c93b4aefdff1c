from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pydantic_core", reason="the gateway's packages are not installed: assay-ml[serve]")

from assay.gateway.server.forward import in_binary, without_proof
from assay.gateway.server.wire import parse_query

X = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}
KINDS = {
    # Not st.floats: it refuses to run where a library flushes subnormal numbers to zero.
    "FP32": st.integers(-(2**24), 2**24).map(lambda n: n / 4096),
    "FP64": st.integers(-(2**53), 2**53).map(lambda n: n / 3),
    "INT8": st.integers(-128, 127),
    "UINT64": st.integers(0, 2**64 - 1),
    "BOOL": st.booleans(),
}


def body(*inputs, **members):
    return json.dumps({"inputs": list(inputs), **members}).encode()


def test_a_proof_in_the_body_does_not_reach_the_server_behind():
    query = parse_query(body(X, parameters={"pow": "t;1", "binary_data_output": True}, id="q"))
    assert query.proof == "t;1"
    assert query.id == "q"
    assert query.binary_outputs == {"*"}
    assert json.loads(without_proof(query).body)["parameters"] == {"binary_data_output": True}
    raw = struct.pack("<4f", 1, 2, 3, 4)
    tensor = {k: v for k, v in X.items() if k != "data"} | {"parameters": {"binary_data_size": 16}}
    head = body(tensor, parameters={"pow": "t;1"})
    bare = without_proof(parse_query(head + raw, len(head)))
    assert bare.body[bare.header_length :] == raw
    assert parse_query(bare.body, bare.header_length).proof is None


@given(st.sampled_from(sorted(KINDS)), st.booleans(), st.data())
@settings(max_examples=100, deadline=None)
def test_numbers_sent_as_bytes_are_the_numbers(kind, nested, data):
    numbers = data.draw(st.lists(KINDS[kind], min_size=96, max_size=96))
    lists = [numbers[:48], numbers[48:]] if nested else numbers
    long = {"name": "x", "datatype": kind, "shape": [2, 48], "data": lists}
    short = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "\u00e9"]}
    query = parse_query(body(long, short, id="7", outputs=[{"name": "y"}]))
    found = in_binary(query)
    again = parse_query(found.body, found.header_length)
    assert again.inputs[0].array.dtype == query.inputs[0].array.dtype
    assert np.array_equal(again.inputs[0].array, query.inputs[0].array)
    assert again.inputs[1].raw == query.inputs[1].raw
    assert (again.id, again.outputs, again.binary_outputs) == ("7", ("y",), frozenset())


def test_what_gains_nothing_goes_as_it_came():
    few = parse_query(body(X))
    assert in_binary(few) is few
    raw = struct.pack("<64f", *range(64))
    head = body({"name": "x", "datatype": "FP32", "shape": [64], "parameters": {"binary_data_size": 256}})
    binary = parse_query(head + raw, len(head))
    assert in_binary(binary) is binary


def test_mixed_requests_keep_what_came_as_bytes():
    text = {"name": "t", "datatype": "FP32", "shape": [64], "data": list(range(64))}
    blob = {"name": "b", "datatype": "INT32", "shape": [64], "parameters": {"binary_data_size": 256}}
    head, raw = body(text, blob, parameters={"pow": "t;1"}), struct.pack("<64i", *range(64))
    found = in_binary(without_proof(parse_query(head + raw, len(head))))
    again = parse_query(found.body, found.header_length)
    assert again.proof is None
    assert again.inputs[0].array.tolist() == list(range(64))
    assert again.inputs[1].raw == raw
