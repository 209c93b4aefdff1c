"""The memory-hard puzzle: fewer tries, each of which needs megabytes, so that special hardware gains less."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from assay.puzzles.claims import Claims
from assay.puzzles.rejection import Rejection
from assay.puzzles.sha256_puzzle import is_solution, seed, solve_one

__all__ = ["GATE_BITS", "check", "solve_gated"]

GATE_BITS = 12
"""Every nonce must also solve a small SHA-256 puzzle, which is checked first: whoever sends
nonsense pays thousands of hashes for each scrypt that the verifier computes."""
_GATE = 1 << (64 - GATE_BITS)
_BLOCK, _LANES = 8, 1
_U64 = 1 << 64


def check(token: str, claims: Claims, nonces: Sequence[int]) -> None:
    """Return if every sub-puzzle of a challenge is solved.

    All gates are checked before the first scrypt is computed. One scrypt takes
    ``128 * 8 * 2**memory`` bytes for its time; callers bound how many run at once.

    Parameters
    ----------
    token
        The challenge as it was signed.
    claims
        Its claims; ``claims.k`` is at most 4.
    nonces
        One number of 64 bits for each sub-puzzle.

    Raises
    ------
    Rejection
        With reason ``"solution"``.
    """
    if len(nonces) != claims.k:
        msg = f"the challenge needs {claims.k} solutions, the proof has {len(nonces)}"
        raise Rejection(msg, "solution")
    start = seed(token)
    gated = all(0 <= n < _U64 and is_solution(start, i, n, _GATE) for i, n in enumerate(nonces))
    if not (
        gated and all(_value(start, i, n, claims.memory) < claims.target64 for i, n in enumerate(nonces))
    ):
        msg = "a solution does not meet the target"
        raise Rejection(msg, "solution")


def solve_gated(start: bytes, index: int, target: int, memory: int, *, first: int = 0, tries: int = 1) -> int:
    """Try the next ``tries`` nonces from ``first`` on that pass the gate.

    Parameters
    ----------
    start
        The seed, 32 bytes.
    index
        Number of the sub-puzzle.
    target
        See `Claims.target64`; the expected number of tries is ``2**64 / target``.
    memory
        log2 of scrypt's N.
    first
        Where to begin; afterwards the search goes on behind ``~result``.
    tries
        How many times scrypt is computed at most.

    Returns
    -------
    int
        The nonce that solves; if there is none among the tries, ``~last``, a negative
        number that tells the last nonce that was tried.

    Examples
    --------
    >>> solve_gated(bytes(32), 0, (1 << 64) - 1, 10) >= 0
    True
    """
    nonce = first - 1
    for _ in range(tries):
        found = solve_one(start, index, _GATE, first=nonce + 1)
        if found is None:  # pragma: no cover - after 2**64 hashes
            break
        nonce = found
        if _value(start, index, nonce, memory) < target:
            return nonce
    return ~nonce


def _value(start: bytes, index: int, nonce: int, memory: int) -> int:
    cost = 1 << memory
    key = hashlib.scrypt(
        nonce.to_bytes(8, "big"),
        salt=start + index.to_bytes(4, "big"),
        n=cost,
        r=_BLOCK,
        p=_LANES,
        maxmem=256 * _BLOCK * cost,
        dklen=8,
    )
    return int.from_bytes(key, "big")
