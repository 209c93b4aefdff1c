import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.puzzles.proof import decode_proof, encode_proof
from assay.puzzles.rejection import Rejection


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=64))
def test_proofs_survive_the_wire(nonces):
    assert decode_proof(encode_proof("abc.def", nonces)) == ("abc.def", tuple(nonces))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "abc.def",
        "abc.def;",
        ";1",
        "abc.def;1,",
        "abc.def;,1",
        "abc.def;1,,2",
        "abc.def;01",
        "abc.def;-1",
        "abc.def;+1",
        "abc.def;1.0",
        "abc.def;1e3",
        "abc.def;0x1",
        "abc.def; 1",
        "abc.def;1 ",
        "abc.def;1\n",
        "abc.def;1;2",
        "abc.def;\u0661",
        "abc.d\u00e9f;1",
        "abc.def;18446744073709551616",
        "abc.def;" + "9" * 5000,
        "abc.def;" + ",".join(["1"] * 65),
        "x" * 5000 + ";1",
        "x" * 10_000_000,
    ],
)
def test_other_forms_are_refused(text):
    with pytest.raises(Rejection) as refusal:
        decode_proof(text)
    assert refusal.value.reason == "malformed"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_noise_is_refused_in_one_way(text):
    try:
        token, nonces = decode_proof(text)
    except Rejection:
        return
    assert encode_proof(token, nonces) == text
