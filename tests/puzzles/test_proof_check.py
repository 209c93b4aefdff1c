import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.puzzles import check as checking
from assay.puzzles.check import Terms, verify
from assay.puzzles.proof import encode_proof
from assay.puzzles.rejection import Rejection

TERMS = Terms(
    now=1010,
    purposes=("query", "deposit"),
    min_bits=8,
    policies=(2, 3),
    sub="account-1",
    model="net",
    model_version="1",
    query_digest="cd" * 32,
)


def refused(proof, keys, **terms):
    with pytest.raises(Rejection) as refusal:
        verify(proof, keys, dataclasses.replace(TERMS, **terms))
    return refusal.value.reason


def test_a_good_proof_is_accepted(solved, keys, claims):
    token, nonces, proof = solved()
    found = verify(proof, keys, TERMS)
    assert (found.claims, found.token, list(found.nonces)) == (claims, token, nonces)
    assert verify(proof, keys, dataclasses.replace(TERMS, sub=None)).claims.sub == "account-1"


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"now": 1061}, "expired"),
        ({"now": 969}, "future"),
        ({"policies": (4,)}, "policy"),
        ({"purposes": ("credit",)}, "purpose"),
        ({"sub": "account-2"}, "account"),
        ({"client": "thumbprint"}, "client"),
        ({"model": "other"}, "model"),
        ({"model": None}, "model"),
        ({"model_version": "2"}, "model"),
        ({"model_version": None}, "model"),
        ({"query_digest": "00" * 32}, "query"),
        ({"query_digest": None}, "query"),
        ({"min_bits": 8.25}, "difficulty"),
        ({"algorithms": ("scrypt",)}, "algorithm"),
    ],
)
def test_what_does_not_fit_the_request_is_refused(solved, keys, terms, reason):
    assert refused(solved()[2], keys, **terms) == reason


def test_limits_belong_to_what_is_allowed(solved, keys):
    proof = solved()[2]
    for now in (970, 1000, 1060):
        verify(proof, keys, dataclasses.replace(TERMS, now=now))


def test_a_raised_target_is_refused_even_if_it_is_signed(solved, keys):
    assert refused(solved(target64=1 << 62)[2], keys) == "difficulty"


def test_no_hash_is_computed_for_what_is_refused_earlier(solved, keys, monkeypatch):
    proof = solved()[2]

    def never(*_):
        pytest.fail("hashed before the claims were checked")

    monkeypatch.setattr(checking, "check_solutions", never)
    assert refused(proof, keys, now=5000) == "expired"
    assert refused(proof, {"k1": b"x" * 32}) == "signature"
    assert refused("noise", keys) == "malformed"


def test_the_mac_comes_before_everything_that_reads_the_claims(solved, keys, monkeypatch):
    token, nonces, _ = solved()
    forged = encode_proof(token[:-4] + "AAAA", nonces)

    def never(*_):
        pytest.fail("read claims that nobody has signed")

    monkeypatch.setattr("assay.puzzles.tokens.parse_claims", never)
    assert refused(forged, keys) == "signature"


def test_solutions_of_another_challenge_are_refused(solved, keys):
    other, _, _ = solved(jti="01" * 16)
    _, nonces, _ = solved()
    assert refused(encode_proof(other, nonces), keys) == "solution"
    assert refused(encode_proof(other, nonces[:-1]), keys) == "solution"


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=300)
    | st.from_regex(r"[A-Za-z0-9_-]{1,80}\.[A-Za-z0-9_-]{43};[0-9]{1,3}", fullmatch=True)
)
def test_noise_never_gets_through(text):
    with pytest.raises(Rejection):
        verify(text, {"k1": bytes(range(32))}, TERMS)
