"""Sums over random subsets of fixed size: the engine of the permutation tests.

The two-sample statistic depends on an assignment only through the sum of the scores
that fall into one group, so no assignment matrix has to exist. Three exact samplers
share the work; all of them draw the subset uniformly:

- few possible subsets: enumerate all sums once, then draw among them;
- few distinct scores: draw how often each value falls into the group (multivariate
  hypergeometric), which costs nothing per row;
- otherwise: eight rows per random byte. Independent fair (or dyadic-biased) bits give a
  subset of random size, which is uniform given its size; removing or adding uniformly
  chosen rows until the size is right keeps it uniform. A table of the 256 partial sums
  of each byte then replaces the matrix product.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput
from assay.statistics.inputs import FloatArray

__all__ = ["all_subset_sums", "count_subsets", "random_subset_sums"]

_ENUMERATE = 2_000
_ROWS_PER_LEVEL = 200
_CHUNK_BYTES = 1 << 25
_DIGITS = 12
_QUARTER = 0.25


def count_subsets(n: int, k: int, limit: int) -> int:
    """Return the number of subsets, or ``limit + 1`` if there are more than ``limit``.

    Parameters
    ----------
    n, k
        Size of the set and of the subsets.
    limit
        Largest count of interest; far beyond it the huge integer is never formed.

    Returns
    -------
    int
        ``min(n choose k, limit + 1)``.

    Examples
    --------
    >>> count_subsets(8, 4, 20_000), count_subsets(40_000, 20_000, 20_000)
    (70, 20001)
    """
    logarithm = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    if logarithm > math.log(limit + 1) + 1.0:
        return limit + 1
    return min(math.comb(n, k), limit + 1)


def all_subset_sums(scores: FloatArray, k: int) -> FloatArray:
    """Return the sum of every subset of ``k`` scores.

    Parameters
    ----------
    scores
        float64, shape ``[n]``.
    k
        Subset size, 0 to n.

    Returns
    -------
    numpy.ndarray
        float64, shape ``[n choose k]``, in no promised order.

    Examples
    --------
    >>> sorted(all_subset_sums(np.array([1.0, 2.0, 4.0]), 2).tolist())
    [3.0, 5.0, 6.0]
    """
    n = scores.size
    small = min(k, n - k)
    if small == 0:
        return np.array([scores.sum() if k else 0.0])
    index = np.array(list(itertools.combinations(range(n), small)), dtype=np.intp)
    sums: FloatArray = scores[index].sum(axis=1)
    return sums if small == k else scores.sum() - sums


def random_subset_sums(scores: FloatArray, k: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """Return the sums of ``draws`` independent uniform subsets of size ``k``.

    Parameters
    ----------
    scores
        float64, shape ``[n]``, finite.
    k
        Subset size, 0 to n.
    draws
        How many subsets.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        float64, shape ``[draws]``.

    Raises
    ------
    InvalidInput
        If ``k`` does not lie in 0..n.

    Examples
    --------
    >>> sums = random_subset_sums(np.arange(100.0), 50, 2000, np.random.default_rng(0))
    >>> sums.shape, bool(abs(sums.mean() - 2475) < 30)
    ((2000,), True)
    """
    n = scores.size
    if not 0 <= k <= n:
        msg = f"a subset of {n} rows has 0 to {n} members, got {k}"
        raise InvalidInput(msg)
    if k in (0, n):
        return np.full(draws, scores.sum() if k else 0.0)
    if count_subsets(n, k, _ENUMERATE) <= _ENUMERATE:
        every = all_subset_sums(scores, k)
        return every[rng.integers(every.size, size=draws)]
    levels, counts = np.unique(scores, return_counts=True)
    if levels.size <= 2 + n // _ROWS_PER_LEVEL:
        sums = np.empty(draws)
        step = max(1, _CHUNK_BYTES // (8 * levels.size))
        for start in range(0, draws, step):
            size = min(step, draws - start)
            drawn = rng.multivariate_hypergeometric(counts, k, size=size, method="marginals")
            sums[start : start + size] = drawn @ levels
        return sums
    if k > n - k:
        return float(scores.sum()) - _by_bits(scores, n - k, draws, rng)
    return _by_bits(scores, k, draws, rng)


def _by_bits(scores: FloatArray, k: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """Draw with random bytes; needs 0 < k <= n/2."""
    n = scores.size
    groups = -(-n // 8)
    padded = np.zeros(groups * 8)
    padded[:n] = scores
    patterns = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    table = padded.reshape(groups, 8) @ patterns.T.astype(np.float64)
    ones = patterns.sum(axis=1, dtype=np.uint8)
    sums = np.empty(draws)
    step = max(1, _CHUNK_BYTES // groups)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        packed = _random_bits((groups, size), *_dyadic(n, k), rng)
        if n % 8:
            packed[-1] &= np.uint8((0xFF << (8 - n % 8)) & 0xFF)
        part = np.zeros(size)
        count = np.zeros(size, dtype=np.int64)
        for row, partial in zip(packed, table, strict=True):
            part += partial.take(row)
            count += ones.take(row)
        _settle(packed, scores, part, count - k, rng)
        sums[start : start + size] = part
    return sums


def _dyadic(n: int, k: int) -> tuple[int, int]:
    """Return (q, m) with q / 2^m near k / n: within one standard deviation of the count."""
    share = k / n
    spread = math.sqrt(n * share * (1.0 - share))
    # Removing a row needs a random hit on a member, which is rare for small k: aim low and add.
    target = k if share > _QUARTER else max(0.0, k - 2.0 * spread)
    for digits in range(1, _DIGITS + 1):
        q = round(target / n * 2**digits) if share > _QUARTER else int(target / n * 2**digits)
        if abs(target - q / 2**digits * n) <= spread:
            return q, digits
    return q, _DIGITS


def _random_bits(shape: tuple[int, int], q: int, digits: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return bytes whose bits are independent Bernoulli(q / 2^digits)."""
    bits = np.zeros(shape, dtype=np.uint8)
    while q and q % 2 == 0:
        q, digits = q // 2, digits - 1
    if q == 0:
        return bits
    # Binary expansion, last digit first: OR halves the distance to 1, AND halves the value.
    for place in range(digits):
        fresh = np.frombuffer(rng.bytes(bits.size), dtype=np.uint8).reshape(shape)
        bits = bits | fresh if (q >> place) & 1 else bits & fresh
    return bits


def _settle(
    packed: NDArray[np.uint8],
    scores: FloatArray,
    sums: FloatArray,
    excess: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Add or remove uniformly chosen rows, in place, until every subset has its size."""
    active = np.flatnonzero(excess)
    while active.size:
        row = rng.integers(scores.size, size=active.size)
        mask = (np.uint8(128) >> (row & 7).astype(np.uint8)).astype(np.uint8)
        surplus = excess[active] > 0
        hit = ((packed[row >> 3, active] & mask) != 0) == surplus
        drawn, chosen = active[hit], row[hit]
        packed[chosen >> 3, drawn] ^= mask[hit]
        step = np.where(surplus[hit], -1, 1)
        sums[drawn] += step * scores[chosen]
        excess[drawn] += step
        active = active[excess[active] != 0]
