"""The puzzle: k nonces whose SHA-256 with a common seed lie below a target."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from assay.puzzles.claims import Claims
from assay.puzzles.rejection import Rejection

__all__ = ["check", "is_solution", "seed", "solve_one"]

_DOMAIN = b"calpow/1\0"
_U64 = 1 << 64
_PACK = struct.Struct(">IQ").pack


def seed(token: str) -> bytes:
    """Return the seed of a challenge: SHA-256 over the whole token, its MAC included.

    Nobody can know it before the gateway has signed, so nothing can be solved in advance.

    Examples
    --------
    >>> len(seed("token"))
    32
    """
    return hashlib.sha256(_DOMAIN + token.encode("ascii")).digest()


def is_solution(start: bytes, index: int, nonce: int, target: int) -> bool:
    """Tell whether a nonce solves sub-puzzle ``index``.

    The index is hashed too, so that one solution cannot serve twice.

    Examples
    --------
    >>> start = hashlib.sha256(b"calpow/1 test vector").digest()
    >>> is_solution(start, 0, 1995, 1 << 52), is_solution(start, 1, 1995, 1 << 52)
    (True, False)
    """
    # 32 + 4 + 8 bytes: one block of SHA-256.
    value = _sha256(start + _PACK(index, nonce)).digest()
    return int.from_bytes(value[:8], "big") < target


def check(token: str, claims: Claims, nonces: Sequence[int]) -> None:
    """Return if every sub-puzzle of a challenge is solved.

    Stops at the first that is not, so a bad proof costs one hash.

    Parameters
    ----------
    token
        The challenge as it was signed.
    claims
        Its claims, from `assay.puzzles.tokens.open_token`.
    nonces
        One number of 64 bits for each sub-puzzle, in their order.

    Raises
    ------
    Rejection
        With reason ``"solution"``.
    """
    if len(nonces) != claims.k:
        msg = f"the challenge needs {claims.k} solutions, the proof has {len(nonces)}"
        raise Rejection(msg, "solution")
    start, limit = seed(token), claims.target64.to_bytes(8, "big")
    for index, nonce in enumerate(nonces):
        if not 0 <= nonce < _U64 or _sha256(start + _PACK(index, nonce)).digest() >= limit:
            msg = f"solution {index} does not meet the target"
            raise Rejection(msg, "solution")


def solve_one(
    start: bytes, index: int, target: int, *, first: int = 0, tries: int | None = None
) -> int | None:
    """Search the first nonce from ``first`` on that solves a sub-puzzle.

    Parameters
    ----------
    start
        The seed, 32 bytes.
    index
        Number of the sub-puzzle.
    target
        See `Claims.target64`.
    first
        Where to begin.
    tries
        How many nonces to try; all that are left unless given.

    Returns
    -------
    int or None
        The nonce; None if there is none among the tries.

    Examples
    --------
    >>> solve_one(hashlib.sha256(b"calpow/1 test vector").digest(), 2, 1 << 52)
    1778
    """
    stop = _U64 if tries is None else min(first + tries, _U64)
    # 32 bytes are less than 8 if and only if their first 8 are: equal ones would make the longer greater.
    limit = target.to_bytes(8, "big")
    base = _sha256(start + index.to_bytes(4, "big"))
    copy = base.copy
    for nonce in range(first, stop):
        hasher = copy()
        hasher.update(nonce.to_bytes(8, "big"))
        if hasher.digest() < limit:
            return nonce
    return None


def _fastest() -> type:
    """Return Python's own SHA-256 where there is one: on single blocks OpenSSL's set-up costs more."""
    for module in ("_sha2", "_sha256"):
        try:
            found: type = __import__(module).sha256
        except (ImportError, AttributeError):
            continue
        return found
    return hashlib.sha256  # type: ignore[return-value]  # a builtin function is called alike


_sha256 = _fastest()
