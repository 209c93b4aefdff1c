"""Kinks of a piecewise linear function along a line, from as few values as tell them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Kink", "find_kinks"]

_NEAR = 1e-4  # step of a slope, as a share of the line
_NARROW = 4 * _NEAR  # an interval in which no further slope fits
_MIDDLE = (0.3, 0.7)  # intervals are split off their middle, which symmetric models like too well


@dataclass(frozen=True, eq=False)
class Kink:
    """Where the slope changes, and by how much.

    Parameters
    ----------
    at
        Position on the line.
    jump
        Slope after it minus slope before it, float64 ``[J]``.
    """

    at: float
    jump: np.ndarray


@dataclass(frozen=True, eq=False)
class _Piece:
    low: float
    high: float
    first: np.ndarray
    first_slope: np.ndarray
    last: np.ndarray
    last_slope: np.ndarray


def find_kinks(
    values: Callable[[np.ndarray], np.ndarray],
    low: float,
    high: float,
    rng: np.random.Generator,
    *,
    tolerance: float,
    most: int = 2000,
) -> tuple[list[Kink], bool]:
    """Find every kink between ``low`` and ``high``; each round asks about all open intervals.

    Two lines that meet inside an interval predict its kink; a value on either side confirms it.
    Anything else is split.

    Parameters
    ----------
    values
        The function: positions ``[n]`` to float64 ``[n, J]``.
    low, high
        Ends of the line, ``low < high``.
    rng
        Draws where intervals are split.
    tolerance
        Error of a value that counts as none.
    most
        Values asked, at most.

    Returns
    -------
    tuple
        The kinks in order, and whether all were found: an interval too narrow for slopes, or
        values used up, make it False.

    Examples
    --------
    >>> def tent(t):
    ...     return np.c_[np.maximum(t - 0.25, 0) - 3 * np.maximum(t - 0.7, 0)]
    >>> kinks, whole = find_kinks(tent, 0.0, 1.0, np.random.default_rng(0), tolerance=1e-9)
    >>> [(round(k.at, 9), round(float(k.jump[0]), 6)) for k in kinks], whole
    ([(0.25, 1.0), (0.7, -3.0)], True)
    """
    near = _NEAR * (high - low)
    asked = values(np.array([low, low + near, high - near, high]))
    left, right = (asked[1] - asked[0]) / near, (asked[3] - asked[2]) / near
    open_pieces = [_Piece(low, high, asked[0], left, asked[3], right)]
    spent, whole = 4, True
    kinks: list[Kink] = []
    while open_pieces:
        bent = [piece for piece in open_pieces if not _straight(piece, tolerance, near)]
        guesses = [_meeting(piece, tolerance, near) for piece in bent]
        sure = [(p, g) for p, g in zip(bent, guesses, strict=True) if g is not None]
        rest = [p for p, g in zip(bent, guesses, strict=True) if g is None]
        wide = [p for p in rest if p.high - p.low > _NARROW * (high - low)]
        whole &= len(wide) == len(rest)
        if spent + 4 * len(sure) + 2 * len(wide) > most:
            return sorted(kinks, key=lambda kink: kink.at), False
        # Both sides are asked: beyond the last of several kinks, the meeting point itself fits.
        beside = np.array([(g - near / 2, g + near / 2) for _, g in sure]).ravel()
        seen = values(beside).reshape(len(sure), 2, -1) if sure else np.empty((0, 2, len(left)))
        spent += len(beside)
        for (piece, at), (before, after) in zip(sure, seen, strict=True):
            forth = piece.first + piece.first_slope * (at - near / 2 - piece.low)
            back = piece.last - piece.last_slope * (piece.high - at - near / 2)
            slack = tolerance * (1 + (piece.high - piece.low) / near)
            if max(np.abs(before - forth).max(), np.abs(after - back).max()) <= slack:
                kinks.append(Kink(at, piece.last_slope - piece.first_slope))
            elif piece.high - piece.low > _NARROW * (high - low):
                wide.append(piece)
            else:
                whole = False
        open_pieces = []
        if wide:
            share = rng.uniform(*_MIDDLE, len(wide))
            cut = np.array([p.low + s * (p.high - p.low) for p, s in zip(wide, share, strict=True)])
            both = values(np.concatenate([cut, cut + near]))
            spent += len(both)
            for n, piece in enumerate(wide):
                value = both[n]
                slope = (both[n + len(wide)] - value) / near
                open_pieces.append(_Piece(piece.low, cut[n], piece.first, piece.first_slope, value, slope))
                open_pieces.append(_Piece(cut[n], piece.high, value, slope, piece.last, piece.last_slope))
    return sorted(kinks, key=lambda kink: kink.at), whole


def _straight(piece: _Piece, tolerance: float, near: float) -> bool:
    """Return whether the line from the left end meets the right one in value."""
    width = piece.high - piece.low
    forth = piece.first + piece.first_slope * width - piece.last
    back = piece.last - piece.last_slope * width - piece.first
    return bool(max(np.abs(forth).max(), np.abs(back).max()) <= tolerance * (1 + width / near))


def _meeting(piece: _Piece, tolerance: float, near: float) -> float | None:
    """Return where the lines from both ends meet, None if they do not meet in one point inside."""
    width = piece.high - piece.low
    turn = piece.last_slope - piece.first_slope
    gap = piece.first + piece.first_slope * width - piece.last
    size = float(turn @ turn)
    if size == 0.0:
        return None
    back = -float(gap @ turn) / size  # distance of the kink from the right end
    slack = tolerance * (1 + width / near)
    if not near < back < width - near or np.abs(gap + back * turn).max() > slack:
        return None
    return float(piece.high - back)
