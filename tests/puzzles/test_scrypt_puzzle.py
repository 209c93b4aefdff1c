import dataclasses

import pytest
from puzzle_samples import KEY, QUERY

from assay.puzzles import scrypt_puzzle
from assay.puzzles.difficulty import target64
from assay.puzzles.rejection import Rejection
from assay.puzzles.scrypt_puzzle import GATE_BITS, check, solve_gated
from assay.puzzles.sha256_puzzle import is_solution, seed
from assay.puzzles.solver import Solver
from assay.puzzles.tokens import mint, read_claims


@pytest.fixture(scope="module")
def solution():
    easy = dataclasses.replace(QUERY, alg="scrypt", memory=10, k=2, target64=target64(2.5, 2))
    token = mint(easy, KEY)
    with Solver(workers=1) as solver:
        return token, solver.solve(token).nonces


def test_solutions_pass_and_others_do_not(solution):
    token, nonces = solution
    claims = read_claims(token)
    check(token, claims, nonces)
    for bad in (nonces[:1], nonces[::-1], (nonces[0], nonces[0]), (nonces[0], -1), (*nonces, 1)):
        with pytest.raises(Rejection) as refusal:
            check(token, claims, bad)
        assert refusal.value.reason == "solution"


def test_nonsense_costs_the_verifier_no_scrypt(solution, monkeypatch):
    token, nonces = solution
    monkeypatch.setattr(scrypt_puzzle, "_value", lambda *_: pytest.fail("computed a scrypt"))
    # The first nonce is right, the second does not pass the gate: still nothing is computed.
    with pytest.raises(Rejection):
        check(token, read_claims(token), (nonces[0], nonces[1] + 1))


def test_a_gated_nonce_that_misses_the_target_is_refused(solution):
    token, nonces = solution
    claims = read_claims(token)
    last = ~solve_gated(seed(token), 0, 1, 10)
    assert is_solution(seed(token), 0, last, 1 << (64 - GATE_BITS))
    if last != nonces[0]:
        with pytest.raises(Rejection):
            check(token, claims, (last, nonces[1]))


def test_the_search_goes_on_where_it_stopped():
    first = ~solve_gated(bytes(32), 0, 1, 10)
    second = ~solve_gated(bytes(32), 0, 1, 10, first=first + 1)
    assert second > first
    assert ~solve_gated(bytes(32), 0, 1, 10, tries=2) == second
