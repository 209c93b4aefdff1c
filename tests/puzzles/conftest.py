"""Claims, keys and solved proofs for the tests of the puzzles."""

import dataclasses

import pytest
from puzzle_samples import KEY, KEYS, QUERY

from assay.puzzles.proof import encode_proof
from assay.puzzles.sha256_puzzle import seed, solve_one
from assay.puzzles.tokens import mint


@pytest.fixture
def claims():
    return QUERY


@pytest.fixture
def key():
    return KEY


@pytest.fixture
def keys():
    return KEYS


@pytest.fixture
def solved():
    """Return a function: changed claims -> token, nonces, proof text."""

    def make(**changes):
        claims = dataclasses.replace(QUERY, **changes)
        token = mint(claims, KEY)
        nonces = [solve_one(seed(token), index, claims.target64) for index in range(claims.k)]
        return token, nonces, encode_proof(token, nonces)

    return make
