from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.gateway.server.problems import BadQuery, Problem, TooLarge, Unacceptable
from assay.gateway.server.replies import OutputTensor, encode_reply, read_reply, with_receipt
from assay.gateway.server.tensors import DATATYPES, from_bytes, from_numbers
from assay.gateway.server.wire import parse_query, read_json


def body(tensor, **members):
    return json.dumps({"inputs": [tensor], **members}).encode()


X = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}


def test_flat_nested_and_binary_are_the_same_query():
    flat = parse_query(body(X)).inputs[0]
    nested = parse_query(body(X | {"data": [[1, 2], [3, 4]]})).inputs[0]
    raw = struct.pack("<4f", 1, 2, 3, 4)
    head = body({k: v for k, v in X.items() if k != "data"} | {"parameters": {"binary_data_size": len(raw)}})
    binary = parse_query(head + raw, len(head)).inputs[0]
    assert flat.raw == nested.raw == binary.raw == raw
    assert flat.rows() == [raw[:8], raw[8:]]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'{"inputs": []}',
        b'{"inputs": {}}',
        b'{"inputs": [1]}',
        b"\xef\xbb\xbf{}",
        '{"inputs": []}'.encode("utf-16"),
        b'{"inputs": [], "inputs": []}',
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"x":' + b"9" * 100_000 + b"}",
        b'{"x": "\xff"}',
        b'{"x": "\\ud800"}',
        b"{} {}",
        b"\x80\x04\x95\x1a\x00\x00\x00",
    ],
)
def test_what_is_no_request_is_refused(text):
    with pytest.raises(BadQuery):
        parse_query(text)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"data": [1.0, 2.0, 3.0]}, BadQuery),
        ({"data": [1.0] * 5}, BadQuery),
        ({"data": [[1.0, 2.0], [3.0]]}, BadQuery),
        ({"data": [[1.0], [2.0], [3.0], [4.0]]}, BadQuery),
        ({"data": ["1", "2", "3", "4"]}, BadQuery),
        ({"data": [None] * 4}, BadQuery),
        ({"data": [{}] * 4}, BadQuery),
        ({"data": [True] * 4}, BadQuery),
        ({"data": [True, 1.0, 2.0, 3.0]}, BadQuery),
        ({"data": [1e39, 0, 0, 0]}, BadQuery),
        ({"data": "1234"}, BadQuery),
        ({"data": {"0": 1}}, BadQuery),
        ({"shape": [-1, 2]}, BadQuery),
        ({"shape": [0, 2], "data": []}, BadQuery),
        ({"shape": [2.0, 2]}, BadQuery),
        ({"shape": [True, 4]}, BadQuery),
        ({"shape": []}, BadQuery),
        ({"shape": [1] * 9}, BadQuery),
        ({"shape": [2**31, 2**31]}, BadQuery),
        ({"shape": "2"}, BadQuery),
        ({"datatype": "BF16"}, Unacceptable),
        ({"datatype": "fp32"}, Unacceptable),
        ({"datatype": 1}, BadQuery),
        ({"datatype": "INT8", "data": [1, 2, 3, 128]}, BadQuery),
        ({"datatype": "UINT8", "data": [1, 2, 3, -1]}, BadQuery),
        ({"datatype": "INT64", "data": [1, 2, 3, 2**63]}, BadQuery),
        ({"datatype": "INT32", "data": [1, 2, 3, 0.5]}, BadQuery),
        ({"datatype": "BOOL", "data": [1, 0, 1, 0]}, BadQuery),
        ({"datatype": "FP16", "data": [70000, 0, 0, 0]}, BadQuery),
        ({"name": ""}, BadQuery),
        ({"name": "a" * 257}, BadQuery),
        ({"name": 3}, BadQuery),
        ({"Data": [1]}, BadQuery),
        ({"parameters": []}, BadQuery),
        ({"parameters": {"shared_memory_region": "r"}}, Unacceptable),
        ({"parameters": {"binary_data_size": 16}}, BadQuery),
    ],
)
def test_tensors_that_two_readers_could_read_differently_are_refused(change, kind):
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]} | change
    with pytest.raises(kind):
        parse_query(body(tensor))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"inputs":[{"data":[true,1.0],"name":"x","datatype":"FP32","shape":[1,2]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1.0,false]}]}',
        b'{"inputs":[{"datatype":"FP32","shape":[1,2],"d\\u0061ta":[true,1.0],"name":"data"}]}',
        (
            b'{"inputs":[{"datatype":"FP32","shape":[1,1],"data":[0],"name":"x"},{"datatype":"FP32","shape":[1,2],'
            b'"name":"y","data":[0,true]}]}'
        ),
        b'{"id":"data","inputs":[{"datatype":"FP32","shape":[1,2],"data":[0,true],"name":"x"}]}',
    ],
)
def test_booleans_are_no_numbers_wherever_they_stand(raw):
    with pytest.raises(BadQuery, match="something else"):
        parse_query(raw)
    fine = raw.replace(b"true", b"2").replace(b"false", b"2")
    assert 2 in parse_query(fine).inputs[-1].array


def test_too_many_items_are_refused():
    many = {"name": "x", "datatype": "INT8", "shape": [65, 1], "data": [0] * 65}
    with pytest.raises(TooLarge, match="at most 64"):
        parse_query(body(many))
    assert parse_query(body(many), max_items=65).n_items == 65


@pytest.mark.parametrize(
    "members",
    [
        {"Inputs": []},
        {"parameters": 1},
        {"parameters": {"binary_data_output": "yes"}},
        {"parameters": {"pow": 3}},
        {"id": 3},
        {"id": "x" * 2000},
        {"outputs": {}},
        {"outputs": [{"name": "y", "extra": 1}]},
        {"outputs": [{}]},
    ],
)
def test_members_of_the_request_are_strict(members):
    with pytest.raises(BadQuery):
        parse_query(body(X, **members))


def test_outputs_in_shared_memory_are_refused():
    with pytest.raises(Unacceptable, match="shared memory"):
        parse_query(body(X, outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]))


def test_inputs_share_the_first_axis_and_have_names_of_their_own():
    other = X | {"name": "z", "shape": [4, 1]}
    with pytest.raises(BadQuery, match="first axes"):
        parse_query(json.dumps({"inputs": [X, other]}).encode())
    with pytest.raises(BadQuery, match="same name"):
        parse_query(json.dumps({"inputs": [X, X]}).encode())
    with pytest.raises(TooLarge, match="at most 16"):
        parse_query(json.dumps({"inputs": [X] * 17}).encode())


def test_a_repeated_member_is_found_wherever_it_hides():
    for text in (
        '{"a": 1, "a": 2}',
        '{"b": {"a": 1, "a": 1}}',
        '[{"a": ":", "a": 1}]',
        '{"a\\u003a": 1, "b": 1, "b": 2}',
        '{"x": ["\\u003a"], "b": 1, "b": 2}',
    ):
        with pytest.raises(BadQuery, match="repeats"):
            read_json(text.encode())
    assert read_json(b'{"a:b": "::", "c": [1, "x:y", {"d": ":"}]}')["a:b"] == "::"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    ),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_the_reader_of_json_agrees_with_pythons(value, ascii_only):
    try:
        text = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    try:
        found = read_json(text)
    except BadQuery:
        # Lone surrogates are no Unicode.
        assert "\\ud" in text.decode()
        return
    assert found == value


def test_binary_bodies_must_be_used_up_exactly():
    raw = struct.pack("<4f", 1, 2, 3, 4)
    head = body({k: v for k, v in X.items() if k != "data"} | {"parameters": {"binary_data_size": 16}})
    for tail, length in ((raw + b"x", len(head)), (raw[:-1], len(head)), (raw, len(head) + 1), (raw, 10**6)):
        with pytest.raises(BadQuery):
            parse_query(head + tail, length)
    with pytest.raises(BadQuery):
        parse_query(head + raw)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_floats_must_be_finite_in_binary_too(value, datatype):
    raw = np.array([1.0, value], DATATYPES[datatype]).tobytes()
    with pytest.raises(BadQuery, match="NaN, infinity"):
        from_bytes("x", datatype, (1, 2), raw)


def test_large_finite_values_pass():
    largest = np.full(4, np.finfo(np.float64).max)
    assert from_bytes("x", "FP64", (1, 4), largest.tobytes()).raw == largest.tobytes()


def test_flags_have_two_values():
    assert from_bytes("x", "BOOL", (1, 2), b"\x00\x01").array.tolist() == [[False, True]]
    with pytest.raises(BadQuery):
        from_bytes("x", "BOOL", (1, 2), b"\x00\x02")


def test_text_is_kept_in_its_binary_form():
    tensor = from_numbers("x", "BYTES", (2, 1), [["ab"], ["ç"]])
    assert tensor.raw == b"\x02\0\0\0ab\x02\0\0\0\xc3\xa7"
    assert from_bytes("x", "BYTES", (2, 1), tensor.raw).raw == tensor.raw
    for broken in (tensor.raw[:-1], tensor.raw + b"\0", b"", b"\xff\xff\xff\xff", b"\0" * 4):
        with pytest.raises(BadQuery):
            from_bytes("x", "BYTES", (2, 1), broken)
    for data in ([1, 2], ["a"], ["\ud800", "b"], [["a"], "b"], [[[[[[[[[["a"]]]]]]]]]]):
        with pytest.raises(BadQuery):
            from_numbers("x", "BYTES", (2, 1), data)


def test_large_whole_numbers_are_exact_beside_small_ones():
    values = [0, 2**63 + 1, 2**64 - 1]
    assert from_numbers("x", "UINT64", (3,), values).array.tolist() == values


@given(st.sampled_from(sorted(DATATYPES)), st.data())
@settings(max_examples=60, deadline=None)
def test_any_array_survives_both_encodings(datatype, data):
    kind = DATATYPES[datatype]
    if kind.kind == "f":
        element = st.floats(allow_nan=False, allow_infinity=False, width=8 * kind.itemsize)
    elif kind.kind == "b":
        element = st.booleans()
    else:
        element = st.integers(int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    values = data.draw(st.lists(element, min_size=1, max_size=6))
    array = np.array(values, kind)
    shape = (len(values),)
    text = json.loads(json.dumps(array.tolist()))
    assert from_numbers("x", datatype, shape, text).raw == array.tobytes()
    assert from_bytes("x", datatype, shape, array.tobytes()).raw == array.tobytes()


@given(st.binary(max_size=200), st.none() | st.integers(0, 250))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused_as_a_problem(raw, length):
    with pytest.raises(Problem) as caught:
        parse_query(raw, length)
    assert 400 <= caught.value.status < 500


def test_binary_outputs_are_chosen_one_by_one():
    asked = [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}]
    query = parse_query(body(X, outputs=asked))
    assert query.outputs == ("a", "b")
    assert query.binary_outputs == {"a"}


def test_replies_survive_both_encodings():
    outputs = [
        OutputTensor("s", "FP32", np.array([[0.25, 0.75]], np.float32)),
        OutputTensor("l", "INT64", np.array([1])),
    ]
    for binary in (frozenset(), frozenset({"s"}), frozenset({"*"})):
        raw, length = encode_reply({"model_name": "m", "id": "q"}, outputs, binary)
        assert (length is None) == (not binary)
        found = read_reply(raw, length)
        assert found.members == {"model_name": "m", "id": "q"}
        for one, other in zip(found.outputs, outputs, strict=True):
            assert one.name == other.name
            assert one.array.dtype == other.array.dtype
            assert np.array_equal(one.array, other.array)
        marked, size = with_receipt(raw, length, {"jti": "1"})
        again = read_reply(marked, size)
        assert again.members["parameters"] == {"pow_receipt": {"jti": "1"}}
        assert np.array_equal(again.outputs[0].array, outputs[0].array)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"outputs": 1}',
        b'{"outputs": [1]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [3], "data": [1, 2]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": ["a", "b"]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": "2", "data": [1, 2]}]}',
        b'{"outputs": [{"name": "y", "datatype": "INT8", "parameters": {"binary_data_size": 9}}]}',
    ],
)
def test_answers_that_are_none_are_refused(raw):
    from assay.errors import InvalidInput

    with pytest.raises(InvalidInput):
        read_reply(raw, None)


def test_text_outputs_are_left_out_but_stepped_over():
    text = {"name": "t", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
    score = {"name": "s", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
    head = json.dumps({"outputs": [text, score]}).encode()
    found = read_reply(head + b"\x01\0\0\0a" + struct.pack("<f", 0.5), len(head))
    assert [one.name for one in found.outputs] == ["s"]
    assert found.outputs[0].array.tolist() == [0.5]
