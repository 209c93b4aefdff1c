"""What may enter a test: the shared checks at the boundary of the statistics room."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import InvalidInput

__all__ = [
    "ALL_EQUAL",
    "Alternative",
    "BoolArray",
    "FloatArray",
    "IntArray",
    "Rng",
    "as_alternative",
    "as_count",
    "as_fraction",
    "as_p_values",
    "as_rows",
    "fault",
    "mean_gap",
    "unit",
]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
Rng: TypeAlias = int | np.random.Generator
Alternative: TypeAlias = Literal["greater", "less", "two-sided"]

ALL_EQUAL = "all scores are equal"
_TWO = 2


def as_rows(values: ArrayLike, name: str) -> FloatArray:
    """Return one float64 score per row, or say what was given instead.

    Non-finite values pass: a test answers them with ``p_value == 1``, not with an error.

    Parameters
    ----------
    values
        Anything array-like of shape ``[n]``.
    name
        How the message calls it.

    Returns
    -------
    numpy.ndarray
        float64, shape ``[n]``.

    Raises
    ------
    InvalidInput
        If the values are no numbers or have another number of axes.

    Examples
    --------
    >>> as_rows([1, True], "private")
    array([1., 1.])
    """
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{name} must be real numbers, one score per row: {error}"
        raise InvalidInput(msg) from error
    if rows.ndim != 1:
        msg = f"{name} must have shape [n], one score per row, got {list(rows.shape)}"
        raise InvalidInput(msg)
    return rows


def as_fraction(value: float, name: str, *, closed: bool = False) -> float:
    """Return a float in (0, 1), or in [0, 1] if ``closed``; raise `InvalidInput` otherwise.

    Examples
    --------
    >>> as_fraction(0.01, "alpha")
    0.01
    """
    number = float(value)
    if not (0.0 < number < 1.0 or (closed and number in (0.0, 1.0))):
        msg = f"{name} must lie {'in [0, 1]' if closed else 'strictly between 0 and 1'}, got {value!r}"
        raise InvalidInput(msg)
    return number


def as_count(value: int, name: str, *, least: int = 1) -> int:
    """Return an integer of at least ``least``; raise `InvalidInput` otherwise.

    Examples
    --------
    >>> as_count(9999, "resamples")
    9999
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        msg = f"{name} must be an integer >= {least}, got {value!r}"
        raise InvalidInput(msg)
    return int(value)


def as_alternative(value: str) -> Alternative:
    """Return the direction of a test, checked; raise `InvalidInput` otherwise.

    Examples
    --------
    >>> as_alternative("greater")
    'greater'
    """
    for known in get_args(Alternative):
        if value == known:
            return known  # type: ignore[no-any-return]  # get_args of a Literal gives its strings
    msg = f"alternative must be one of {', '.join(get_args(Alternative))}, got {value!r}"
    raise InvalidInput(msg)


def as_p_values(values: ArrayLike, name: str = "p-values") -> FloatArray:
    """Return a non-empty float64 array of numbers in [0, 1]; raise `InvalidInput` otherwise.

    Examples
    --------
    >>> as_p_values([0.2, 1])
    array([0.2, 1. ])
    """
    try:
        p = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{name} must be real numbers: {error}"
        raise InvalidInput(msg) from error
    # A NaN fails both comparisons, so it is refused here and cannot turn into a small p-value later.
    if p.size == 0 or not np.all((p >= 0.0) & (p <= 1.0)):
        msg = f"{name} must be a non-empty array of numbers in [0, 1]"
        raise InvalidInput(msg)
    return p


def fault(private: FloatArray, control: FloatArray) -> str:
    """Say why two groups of scores cannot be compared; empty if they can.

    Examples
    --------
    >>> fault(np.ones(5), np.ones(5))
    'all scores are equal'
    """
    for name, rows in (("private", private), ("control", control)):
        if rows.size < _TWO:
            return f"{rows.size} {name} row(s); at least 2 are needed"
        if not np.all(np.isfinite(rows)):
            return f"{int(np.sum(~np.isfinite(rows)))} {name} score(s) are not finite"
    low = min(float(private.min()), float(control.min()))
    high = max(float(private.max()), float(control.max()))
    if low == high:
        return ALL_EQUAL
    if not math.isfinite(high - low):
        return "the scores span more than a float64 can hold"
    return ""


def unit(private: FloatArray, control: FloatArray) -> float:
    """Return a power of two near the largest score, so that squares of score / unit stay in range.

    Examples
    --------
    >>> unit(np.array([-5.0, 1.0]), np.array([3.0]))
    4.0
    """
    largest = max(float(np.abs(private).max()), float(np.abs(control).max()))
    return math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest > 0.0 else 1.0


def mean_gap(private: FloatArray, control: FloatArray) -> float:
    """Return mean(private) - mean(control) of finite scores without overflow on the way.

    Examples
    --------
    >>> mean_gap(np.array([3.0, 4.0]), np.array([1.0, 2.0]))
    2.0
    """
    scale = unit(private, control)
    return (float((private / scale).mean()) - float((control / scale).mean())) * scale
