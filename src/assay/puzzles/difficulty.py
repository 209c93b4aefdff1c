"""Difficulty in real-valued bits: 2**bits is the expected number of hashes."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from functools import lru_cache

from assay.errors import InvalidInput

__all__ = ["bits_of", "expected_work", "round_bits", "target64"]

_U64 = 1 << 64
_MOST_BITS = 63.0
# A double holds 53 bits of the 64; the exact power needs about 20 decimal digits and some to spare.
_EXACT = Context(prec=50)


@lru_cache(maxsize=4096)
def target64(bits: float, k: int) -> int:
    """Return the target of each of ``k`` sub-puzzles that together cost ``2**bits`` hashes.

    Parameters
    ----------
    bits
        Total difficulty, from log2(k) to 63.
    k
        Number of sub-puzzles. The work is a sum of k geometric variables, so its relative
        standard deviation is 1/sqrt(k).

    Returns
    -------
    int
        ``floor(k * 2**(64 - bits))``, at most 2**64 - 1.

    Raises
    ------
    InvalidInput
        If the difficulty is below one hash per sub-puzzle or above 63 bits.

    References
    ----------
    A. Back, "Hashcash", 2002, for puzzles of whole bits; fractional bits because rounding
    down to whole ones gives away 28% of the intended work on average.

    Examples
    --------
    >>> target64(18.5, 1), target64(16.25, 8)
    (49758216191607, 1893530391196907)
    """
    if k < 1 or not math.log2(k) <= bits <= _MOST_BITS:
        msg = f"a difficulty lies between log2(k) and {_MOST_BITS:g} bits, got {bits} for k = {k}"
        raise InvalidInput(msg)
    scale = _EXACT.power(Decimal(2), _EXACT.subtract(Decimal(64), Decimal(bits)))
    return min(int(_EXACT.multiply(Decimal(k), scale)), _U64 - 1)


def expected_work(target: int, k: int) -> float:
    """Return the expected number of hashes of ``k`` sub-puzzles with this target.

    Examples
    --------
    >>> expected_work(1 << 50, 16)
    262144.0
    """
    if k < 1 or not 1 <= target < _U64:
        msg = f"a target lies between 1 and 2**64 - 1, got {target} for k = {k}"
        raise InvalidInput(msg)
    return k * (_U64 / target)


def bits_of(target: int, k: int) -> float:
    """Return the total difficulty of ``k`` sub-puzzles in bits, the inverse of `target64`.

    Examples
    --------
    >>> bits_of(1 << 50, 16)
    18.0
    """
    return math.log2(expected_work(target, k))


def round_bits(bits: float, uniform: float, *, step: float = 0.25) -> float:
    """Round to a multiple of ``step``, up or down by chance, so that the expected work stays.

    A difficulty in coarse steps tells less about what it was computed from; the chance is
    such that ``E[2**rounded] == 2**bits``, so nobody gains by asking again.

    Parameters
    ----------
    bits
        What is owed.
    uniform
        A random number, 0 <= uniform < 1.
    step
        Distance of the difficulties that are offered.

    Examples
    --------
    >>> round_bits(18.1, 0.9), round_bits(18.1, 0.1), round_bits(18.25, 0.0)
    (18.0, 18.25, 18.25)
    """
    if not (math.isfinite(bits) and step > 0 and 0 <= uniform < 1):
        msg = f"cannot round {bits} bits in steps of {step} with the random number {uniform}"
        raise InvalidInput(msg)
    low = math.floor(bits / step) * step
    chance_up = (2.0 ** (bits - low) - 1) / (2.0**step - 1)
    return low + step if uniform < chance_up else low
