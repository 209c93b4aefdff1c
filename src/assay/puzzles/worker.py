"""One process of the solver: reads slices of work line by line, answers each with what it found.

Request: ``alg seed index target memory first tries`` (seed and target in hexadecimal).
Answer: ``nonce next tries``, with ``-`` where no nonce of the slice solves.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TextIO

from assay.puzzles.scrypt_puzzle import solve_gated
from assay.puzzles.sha256_puzzle import solve_one

__all__ = ["SubPuzzle", "attempt", "main"]


@dataclass(frozen=True, slots=True)
class SubPuzzle:
    """One of the k puzzles of a challenge.

    Attributes
    ----------
    alg
        ``"sha256"`` or ``"scrypt"``.
    seed
        32 bytes.
    index
        Its number.
    target
        See `assay.puzzles.claims.Claims.target64`.
    memory
        log2 of scrypt's N.
    """

    alg: str
    seed: bytes
    index: int
    target: int
    memory: int = 0


def attempt(puzzle: SubPuzzle, first: int, tries: int) -> tuple[int | None, int, int]:
    """Try some nonces.

    Parameters
    ----------
    puzzle
        What to solve.
    first
        Nonce to begin with.
    tries
        How many hashes; scrypt is computed once, however many are asked.

    Returns
    -------
    tuple
        The nonce that solves or None, the nonce to go on with, and the number of tries.

    Examples
    --------
    >>> import hashlib
    >>> start = hashlib.sha256(b"calpow/1 test vector").digest()
    >>> attempt(SubPuzzle("sha256", start, 0, 1 << 52), 0, 4096)
    (1995, 1996, 1996)
    """
    if puzzle.alg == "scrypt":
        found = solve_gated(puzzle.seed, puzzle.index, puzzle.target, puzzle.memory, first=first)
        return (found, found + 1, 1) if found >= 0 else (None, ~found + 1, 1)
    nonce = solve_one(puzzle.seed, puzzle.index, puzzle.target, first=first, tries=tries)
    stop = first + tries if nonce is None else nonce + 1
    return nonce, stop, stop - first


def main(requests: TextIO = sys.stdin, answers: TextIO = sys.stdout) -> None:
    """Do what is asked until the requests end.

    Examples
    --------
    >>> import hashlib, io
    >>> start = hashlib.sha256(b"calpow/1 test vector").hexdigest()
    >>> main(io.StringIO(f"sha256 {start} 2 {1 << 52:x} 0 0 4096"), sys.stdout)
    1778 1779 1779
    """
    for line in requests:
        alg, start, index, target, memory, first, tries = line.split()
        puzzle = SubPuzzle(alg, bytes.fromhex(start), int(index), int(target, 16), int(memory))
        nonce, stop, done = attempt(puzzle, int(first), int(tries))
        answers.write(f"{'-' if nonce is None else nonce} {stop} {done}\n")
        answers.flush()


if __name__ == "__main__":
    main()
