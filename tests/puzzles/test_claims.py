import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.puzzles.claims import Claims, parse_claims
from assay.puzzles.rejection import Rejection


def test_the_canonical_form_is_sorted_json_without_spaces(claims):
    fields = dataclasses.asdict(claims) | {"target64": f"{claims.target64:016x}"}
    assert claims.canonical() == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def test_claims_survive_the_wire(claims):
    assert parse_claims(claims.canonical()) == claims


def test_every_field_changes_the_signed_bytes(claims):
    changes = {
        "kid": "k2", "target64": 7, "k": 5, "purpose": "deposit", "sub": "other", "price_units": 2.25,
        "iat": 999, "exp": 1061, "jti": "00" * 16, "model": "net2", "model_version": "2",
        "query_digest": "00" * 32, "n_items": 3, "policy_version": 4, "client": "c",
    }  # fmt: skip
    for name, value in changes.items():
        assert dataclasses.replace(claims, **{name: value}).canonical() != claims.canonical(), name
    scrypt = dataclasses.replace(claims, alg="scrypt", memory=14)
    assert dataclasses.replace(scrypt, memory=15).canonical() != scrypt.canonical()


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"kid": ""},
        {"kid": "a b"},
        {"alg": "none"},
        {"alg": "sha1"},
        {"memory": 14},
        {"alg": "scrypt", "memory": 9},
        {"alg": "scrypt", "memory": 14, "k": 5},
        {"k": 0},
        {"k": 65},
        {"target64": 0},
        {"target64": 1 << 64},
        {"purpose": "gift"},
        {"purpose": "credit"},
        {"sub": ""},
        {"sub": 'a"b'},
        {"sub": "a\\b"},
        {"sub": "a\nb"},
        {"sub": "\ud800"},
        {"sub": "na\u00efve"},
        {"sub": "x" * 129},
        {"client": "a b"},
        {"model": ""},
        {"query_digest": ""},
        {"query_digest": "CD" * 32},
        {"n_items": -1},
        {"price_units": -0.5},
        {"price_units": float("nan")},
        {"price_units": float("inf")},
        {"policy_version": -1},
        {"iat": -1},
        {"exp": 1000},
        {"jti": "ab"},
        {"jti": "AB" * 16},
    ],
)
def test_fields_out_of_range_are_refused(claims, change):
    with pytest.raises(Rejection) as refusal:
        dataclasses.replace(claims, **change)
    assert refusal.value.reason == "malformed"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"k":4', '"k": 4'),
        ('"k":4', '"k":04'),
        ('"k":4', '"k":+4'),
        ('"k":4', '"k":4.0'),
        ('"k":4', '"k":true'),
        ('"k":4', '"k":"4"'),
        ('"k":4', '"k":4,"k":4'),
        ('"k":4,', ""),
        ('"k":4', '"k":4,"x":1'),
        ('"v":1', '"v":2'),
        ('"v":1}', '"v":1} '),
        ('"price_units":2.5', '"price_units":2.50'),
        ('"price_units":2.5', '"price_units":1e999'),
        ('"price_units":2.5', '"price_units":...'),
        ('"sub":"account-1"', '"sub":"acc\\u006funt-1"'),
        ('"alg":"sha256"', '"alg":"none"'),
    ],
)
def test_only_one_spelling_is_read(claims, old, new):
    text = claims.canonical().decode()
    assert old in text
    with pytest.raises(Rejection):
        parse_claims(text.replace(old, new).encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_noise_is_refused_in_one_way(raw):
    with pytest.raises(Rejection):
        parse_claims(raw)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_can_be_built_can_be_read(data):
    text = st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0xFFEF, blacklist_characters='"\\'),
        min_size=1,
        max_size=20,
    )
    fields = {
        "kid": "k1", "k": data.draw(st.integers(1, 64)), "target64": data.draw(st.integers(1, 2**64 - 1)),
        "purpose": "query", "sub": data.draw(text), "model": data.draw(text),
        "model_version": data.draw(st.just("") | text), "client": data.draw(st.just("") | text),
        "query_digest": "00" * 32, "n_items": 1, "jti": "00" * 16,
        "price_units": data.draw(st.floats(0, 1e15)), "policy_version": data.draw(st.integers(0, 2**40 - 1)),
        "iat": 5, "exp": data.draw(st.integers(6, 2**40 - 1)),
    }  # fmt: skip
    try:
        claims = Claims(**fields)
    except Rejection:
        return
    assert parse_claims(claims.canonical()) == claims
