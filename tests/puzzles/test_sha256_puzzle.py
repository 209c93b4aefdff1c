import hashlib
import math
import random
import statistics

import pytest

from assay.puzzles.difficulty import target64
from assay.puzzles.rejection import Rejection
from assay.puzzles.sha256_puzzle import check, is_solution, seed, solve_one
from assay.puzzles.tokens import read_claims

START = hashlib.sha256(b"calpow/1 test vector").digest()


def test_the_seed_of_the_vectors():
    assert START.hex() == "1b1cdff44611647f19d865c1a3bfabdf5a1e2c575ccd455030c3f7b206547f68"
    value = hashlib.sha256(START + bytes(4) + (1995).to_bytes(8, "big")).hexdigest()
    assert value[:16] == "0004bebdf19ea13d"


@pytest.mark.parametrize(
    ("bits", "k", "target", "nonces"),
    [
        (12, 1, 0x0010000000000000, [1995]),
        (14, 4, 0x0010000000000000, [1995, 1159, 1778, 431]),
        (16.25, 8, 0x0006BA27E656B4EB, [1995, 1159, 1778, 3552, 33237, 4323, 939, 11412]),
        (18, 16, 0x0004000000000000, [18661, 4784, 1778]),
    ],
)
def test_the_first_solutions_of_the_vectors(bits, k, target, nonces):
    assert target64(bits, k) == target
    assert [solve_one(START, index, target) for index in range(len(nonces))] == nonces
    assert all(is_solution(START, index, nonce, target) for index, nonce in enumerate(nonces))


def test_a_search_can_be_cut_into_slices():
    target = 0x0010000000000000
    assert solve_one(START, 0, target, tries=1995) is None
    assert solve_one(START, 0, target, first=1995, tries=1) == 1995
    assert solve_one(START, 0, target, first=1996) > 1995


def test_work_has_the_stated_mean_and_spread():
    """10,000 solves at 10 bits, k sub-puzzles each: mean 2**10 within 3%, relative sd 1/sqrt(k) within 5%."""
    for k, solves in ((1, 10_000), (4, 10_000), (16, 10_000)):
        target = target64(10, k)
        chance = target / 2**64
        rng = random.Random(k)
        # Most are drawn: hashing all would take half a minute. That real hashes agree is tested below.
        draws = [sum(_geometric(rng.random(), chance) for _ in range(k)) for _ in range(solves)]
        mean = statistics.fmean(draws)
        assert mean == pytest.approx(1024, rel=0.03)
        assert statistics.pstdev(draws) / mean == pytest.approx(k**-0.5, rel=0.05)


def _geometric(uniform, chance):
    return 1 + int(math.log(1 - uniform) / math.log1p(-chance))


def test_real_hashes_have_the_same_distribution():
    k, solves = 16, 600
    target, tries = target64(10, k), []
    for number in range(solves):
        start = hashlib.sha256(b"%d" % number).digest()
        tries.append(sum(solve_one(start, index, target) + 1 for index in range(k)))
    mean = statistics.fmean(tries)
    # Standard error of the mean: 1/sqrt(16 * 600) = 1%; of the spread: about 3%.
    assert mean == pytest.approx(1024, rel=0.04)
    assert statistics.pstdev(tries) / mean == pytest.approx(0.25, rel=0.12)


def test_a_hash_that_misses_the_target_is_refused(claims, solved):
    token, nonces, _ = solved()
    check(token, claims, nonces)
    start = seed(token)
    miss = next(n for n in range(1000) if not is_solution(start, 2, n, claims.target64))
    with pytest.raises(Rejection) as refusal:
        check(token, claims, [*nonces[:2], miss, nonces[3]])
    assert refusal.value.reason == "solution"


def test_each_sub_puzzle_needs_its_own_solution(claims, solved):
    token, nonces, _ = solved()
    for bad in (nonces[:-1], [*nonces, nonces[0]], [], [nonces[0]] * 4, nonces[::-1], [-1, *nonces[1:]]):
        with pytest.raises(Rejection):
            check(token, claims, bad)
    with pytest.raises(Rejection):
        check(token, claims, [1 << 64, *nonces[1:]])


def test_solutions_do_not_carry_over_to_another_challenge(solved):
    _, nonces, _ = solved()
    other, _, _ = solved(jti="00" * 16)
    with pytest.raises(Rejection):
        check(other, read_claims(other), nonces)
