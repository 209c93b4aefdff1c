import dataclasses
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest

from assay.errors import InvalidInput, ProofRejected
from assay.puzzles.rejection import Rejection
from assay.puzzles.tokens import mac, mint, open_token, read_claims


def split(token):
    return [urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]


def joined(*parts):
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_the_mac_of_the_published_vector(key):
    expected = "ee7878dfe3a67388c6c0e33b12e948a92cfd42fd4b8175dfb42442c95fe9a05e"
    assert mac(b'{"v":1}', key).hex() == expected


def test_a_token_opens_with_its_key_only(claims, key):
    token = mint(claims, key)
    assert open_token(token, {"k1": key}) == claims
    assert read_claims(token) == claims
    for keys in ({}, {"k1": b"x" * 32}):
        with pytest.raises(Rejection) as refusal:
            open_token(token, keys)
        assert refusal.value.reason == "signature"
    assert isinstance(refusal.value, ProofRejected)


def test_keys_rotate(claims, key):
    old = mint(claims, key)
    new = mint(dataclasses.replace(claims, kid="k2"), b"n" * 32)
    live = {"k2": b"n" * 32, "k1": key}
    assert [open_token(token, live).kid for token in (old, new)] == ["k1", "k2"]
    with pytest.raises(Rejection):
        open_token(old, {"k2": b"n" * 32})


def test_a_key_signs_under_its_own_name_only(claims, key):
    token = mint(claims, key)
    with pytest.raises(Rejection):
        open_token(token, {"other": key})


def test_every_changed_byte_is_noticed(claims, key):
    payload, signature = split(mint(claims, key))
    for position in range(0, len(payload), 7):
        changed = bytearray(payload)
        changed[position] ^= 1
        with pytest.raises(Rejection) as refusal:
            open_token(joined(bytes(changed), signature), {"k1": key})
        assert refusal.value.reason == "signature"
    for position in range(32):
        changed = bytearray(signature)
        changed[position] ^= 128
        with pytest.raises(Rejection):
            open_token(joined(payload, bytes(changed)), {"k1": key})


def test_digits_cannot_move_between_adjacent_fields(claims, key):
    # "exp" and "iat" are neighbours in the signed form: without delimiters 1060|1000 and 10601|000 agree.
    one = dataclasses.replace(claims, iat=100, exp=1060)
    two = dataclasses.replace(claims, iat=1001, exp=10601)
    assert mac(one.canonical(), key) != mac(two.canonical(), key)
    payload, signature = split(mint(one, key))
    shifted = payload.replace(b'"exp":1060,"iat":100,', b'"exp":10601,"iat":00,')
    assert shifted != payload
    with pytest.raises(Rejection):
        open_token(joined(shifted, signature), {"k1": key})


def test_one_token_has_one_spelling(claims, key):
    token = mint(claims, key)
    last = token[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 32 bytes leave two unused bits in the last letter.
    twin = token[:-1] + alphabet[alphabet.index(last) ^ 1]
    with pytest.raises(Rejection):
        open_token(twin, {"k1": key})
    for other in (token + "=", token + "\n", " " + token, token.replace(".", ".."), token[:-1]):
        with pytest.raises(Rejection):
            open_token(other, {"k1": key})


def test_what_is_signed_but_no_claims_is_refused(key):
    for payload in (b'{"v":1}', b"[]", b"null", json.dumps({"alg": "none"}).encode()):
        with pytest.raises(Rejection) as refusal:
            open_token(joined(payload, mac(payload, key)), {"k1": key})
        assert refusal.value.reason == "malformed"


def test_long_tokens_are_not_even_decoded(key):
    with pytest.raises(Rejection):
        open_token("A" * 10_000_000 + "." + "A" * 43, {"k1": key})


def test_short_keys_are_refused(claims):
    with pytest.raises(InvalidInput, match="at least 16 bytes"):
        mint(claims, b"secret")
