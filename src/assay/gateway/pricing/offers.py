"""From units owed to a puzzle: difficulty on a coarse grid, rounded at random without bias.

Whole bits would lose 28% of the intended work on average. Difficulties on a grid of
quarter bits, drawn so that the expected work is exactly what is owed, lose nothing and
still show only a coarse value. The draw is a function of a secret and of the account's
ledger, so that asking again shows the same offer: otherwise the cheapest of many could be
picked, and their frequencies would show the exact debt.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.policy import Policy
from assay.gateway.pricing.rule import FloatArray

__all__ = ["Offer", "draw", "make_offer", "offered_bits"]

_SCALE = 2.0**53


@dataclass(frozen=True, slots=True)
class Offer:
    """A puzzle to offer.

    Parameters
    ----------
    bits
        Total difficulty in bits: the expected work is ``2**bits`` hashes.
    k
        Sub-puzzles that share it.
    units
        Units that a valid proof is worth, exactly those of ``bits``. This is what the
        ledger books and the challenge may show; the exact debt stays inside.
    seconds
        Expected solving time at the policy's client rate.
    """

    bits: float
    k: int
    units: float
    seconds: float


def draw(secret: bytes, state: AccountState) -> float:
    """Return a number in [0, 1) that stays the same until the account's ledger moves.

    Examples
    --------
    >>> state = AccountState("a", queries=3)
    >>> draw(b"secret", state) == draw(b"secret", state) != draw(b"secret", state.pay(1.0))
    True
    """
    text = f"{state.id}\0{state.queries}\0{state.work_paid!r}\0{state.debt!r}\0{state.reserved!r}"
    code = hmac.new(secret, b"assay/offer/1\0" + text.encode(), hashlib.sha256).digest()
    return (int.from_bytes(code[:8], "big") >> 11) / _SCALE


def offered_bits(policy: Policy, units: ArrayLike, uniform: ArrayLike) -> FloatArray:
    """Return difficulties for amounts of work, with ``E[2**bits]`` equal to the work within the grid's range.

    Parameters
    ----------
    policy
        Grid, bounds and hashes per unit.
    units
        Units owed, at least 0.
    uniform
        Uniform draws in [0, 1), one per amount.

    Examples
    --------
    >>> offered_bits(Policy(), [1.0, 1.1, 1.1, 1e9], [0.5, 0.2, 0.9, 0.5])
    array([12.  , 12.25, 12.  , 26.  ])
    """
    puzzle = policy.puzzle
    hashes = np.asarray(units, dtype=np.float64) * policy.pricing.hashes_per_unit
    if not bool(np.all(np.isfinite(hashes) & (hashes >= 0.0))):
        msg = "units owed must be finite and not negative"
        raise InvalidInput(msg)
    exact = np.log2(np.clip(hashes, 2.0**puzzle.min_bits, 2.0**puzzle.max_bits))
    # Steps are counted from the floor, so that the floor itself is on the grid.
    low = puzzle.min_bits + np.floor((exact - puzzle.min_bits) / puzzle.step_bits) * puzzle.step_bits
    high = np.minimum(low + puzzle.step_bits, puzzle.max_bits)
    gap = np.exp2(high) - np.exp2(low)
    share = np.divide(np.exp2(exact) - np.exp2(low), gap, out=np.zeros_like(gap), where=gap > 0.0)
    return np.where(np.asarray(uniform) < share, high, low)


def make_offer(policy: Policy, units: float, uniform: float) -> Offer:
    """Return the puzzle for ``units`` of work.

    More than ``puzzle.max_bits`` is asked for in several puzzles; less than
    ``puzzle.min_bits`` is rounded up and the rest becomes credit.

    Raises
    ------
    InvalidInput
        If the units are negative or not finite, or the draw lies outside [0, 1).

    Examples
    --------
    >>> make_offer(Policy(), 16.0, 0.5)
    Offer(bits=16.0, k=16, units=16.0, seconds=0.065536)
    """
    if not 0.0 <= uniform < 1.0:
        msg = f"the rounding draw must lie in [0, 1), got {uniform}"
        raise InvalidInput(msg)
    bits = float(offered_bits(policy, units, uniform))
    hashes = math.exp2(bits)
    pricing = policy.pricing
    return Offer(bits, policy.puzzle.k, hashes / pricing.hashes_per_unit, hashes / pricing.expected_rate_hz)
