"""The default test: private and control rows are a random split, so relabel them.

Under "the suspect is independent of the secret split" every relabelling with the same
group sizes (within each stratum) is equally likely, whatever the suspect is. The share
of relabellings that look at least as extreme as the true one is therefore a valid
p-value in finite samples, with no model of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.registry import register
from assay.result import TestResult
from assay.statistics.effect import cohen_d
from assay.statistics.inputs import (
    Alternative,
    BoolArray,
    FloatArray,
    IntArray,
    Rng,
    as_alternative,
    as_count,
    as_rows,
    fault,
    mean_gap,
)
from assay.statistics.sequential_permutation import group_sequential, spending
from assay.statistics.subset_sums import all_subset_sums, count_subsets, random_subset_sums

__all__ = ["permutation_p_values", "permutation_test"]

_NULL = "given the scores, which rows are private is a uniformly random choice (within strata)"
_EXHAUSTIVE = 20_000
# Sums are compared relative to the total absolute score: rounding must never turn a tie into evidence.
_TIE = 1e-10


@register("permutation", kind="test")
def permutation_test(
    private: ArrayLike,
    control: ArrayLike,
    *,
    strata_private: ArrayLike | None = None,
    strata_control: ArrayLike | None = None,
    resamples: int = 9999,
    rng: Rng = 0,
    alternative: Alternative = "greater",
    confidence: float = 0.95,
    looks: Sequence[int] | None = None,
) -> TestResult:
    """Permutation test of mean(private) - mean(control).

    All assignments are enumerated if there are at most 20,000; otherwise
    ``p = (1 + #{T* >= T}) / (resamples + 1)``, which is valid for any number of
    resamples. Ties count against the claim.

    Parameters
    ----------
    private, control
        One score per row (one row = one independent image), shapes ``[n]`` and ``[m]``.
    strata_private, strata_control
        Label of each row (numbers or strings, for example the class); rows are relabelled
        only within their stratum. Give both or neither.
    resamples
        Monte Carlo draws, at least 1. The p-value is at least ``1 / (resamples + 1)``.
    rng
        Seed or generator.
    alternative
        ``"greater"`` (private rows score higher), ``"less"`` or ``"two-sided"``.
    confidence
        Coverage of the effect's interval, in (0, 1).
    looks
        Increasing numbers of rows per group at which the data were, or will be, looked at.
        Look ``k`` tests the first ``looks[k]`` rows of each group, so the order of the rows
        must be fixed in advance (or random). The p-value is then the smallest over the looks,
        each divided by its equal share of alpha, and stays valid if one stops early.

    Returns
    -------
    TestResult
        Statistic: mean difference over all rows tested; effect: Cohen's d. Scores that
        cannot be compared (all equal, not finite, fewer than two rows in a group) give
        ``p_value == 1`` and a reason, never an exception.

    Raises
    ------
    InvalidInput
        On wrong shapes, one-sided strata, or options out of range.

    References
    ----------
    Phipson and Smyth 2010, "Permutation p-values should never be zero";
    Lehmann and Romano 2005, "Testing Statistical Hypotheses", section 15.2.

    Examples
    --------
    >>> result = permutation_test([5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0])
    >>> round(result.p_value * 70), result.statistic, result.exact
    (1, 4.0, True)
    """
    x, y = as_rows(private, "private"), as_rows(control, "control")
    codes = _codes(strata_private, strata_control, x.size, y.size)
    direction = as_alternative(alternative)
    generator = np.random.default_rng(rng)
    as_count(resamples, "resamples")
    effect = cohen_d(x, y, confidence)
    if looks is None:
        p, reason = _test(x, y, codes, resamples, direction, generator)
    else:
        sizes = _looks(looks, max(x.size, y.size))
        steps = [
            _test(x[:k], y[:k], (codes[0][:k], codes[1][:k]), resamples, direction, generator) for k in sizes
        ]
        p = group_sequential([step[0] for step in steps], spending(1.0, len(sizes)))
        reason = steps[-1][1]
        x, y = x[: sizes[-1]], y[: sizes[-1]]
        effect = cohen_d(x, y, confidence)
    usable = not fault(x, y)
    return TestResult(
        test="permutation" if looks is None else "permutation-sequential",
        null=_NULL,
        statistic=mean_gap(x, y) if usable else 0.0,
        p_value=p,
        n={"private": x.size, "control": y.size},
        effect=effect if usable else None,
        exact=True,
        reason=reason,
    )


def permutation_p_values(
    scores: ArrayLike,
    assignment: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    resamples: int = 9999,
    rng: Rng = 0,
    alternative: Alternative = "greater",
) -> FloatArray:
    """Permutation p-value of each of several score columns over one assignment.

    Parameters
    ----------
    scores
        Shape ``[n]`` or ``[..., n]``; every leading index is tested on its own.
    assignment
        Bool, shape ``[n]``: True for private rows.
    strata
        Label of each row, shape ``[n]``, or None.
    resamples, rng, alternative
        As in `permutation_test`.

    Returns
    -------
    numpy.ndarray
        float64, shape ``scores.shape[:-1]``; 1 where a column cannot be tested.

    Raises
    ------
    InvalidInput
        On wrong shapes or options out of range.

    Examples
    --------
    >>> p = permutation_p_values([[4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]], [True, True, False, False])
    >>> np.round(p * 6)
    array([1., 6.])
    """
    table = np.asarray(scores, dtype=np.float64)
    member = np.asarray(assignment)
    if table.ndim < 1 or member.dtype != np.bool_ or member.shape != table.shape[-1:]:
        msg = (
            f"assignment must be bool of shape [n] for scores [..., n], got {member.dtype} "
            f"{list(member.shape)} for {list(table.shape)}"
        )
        raise InvalidInput(msg)
    labels = None if strata is None else np.asarray(strata)
    if labels is not None and labels.shape != member.shape:
        msg = f"strata must have shape {list(member.shape)}, got {list(labels.shape)}"
        raise InvalidInput(msg)
    direction = as_alternative(alternative)
    as_count(resamples, "resamples")
    generator = np.random.default_rng(rng)
    codes = _codes(
        None if labels is None else labels[member],
        None if labels is None else labels[~member],
        int(member.sum()),
        int((~member).sum()),
    )
    p = [
        _test(row[member], row[~member], codes, resamples, direction, generator)[0]
        for row in table.reshape(-1, member.size)
    ]
    return np.array(p, dtype=np.float64).reshape(table.shape[:-1])


def _test(
    x: FloatArray,
    y: FloatArray,
    codes: tuple[IntArray, IntArray],
    resamples: int,
    direction: Alternative,
    rng: np.random.Generator,
) -> tuple[float, str]:
    """Return (p-value, reason)."""
    reason = fault(x, y)
    if reason:
        return 1.0, reason
    scores = np.concatenate([x, y])
    # Scale and shift change no p-value, but keep sums far from overflow and from cancellation.
    scores = (scores - scores.min()) / (scores.max() - scores.min())
    member = np.arange(scores.size) < x.size
    strata = _movable(scores, member, np.concatenate(codes))
    if not strata:
        return 1.0, "no stratum holds differing scores from both groups"
    observed = sum(float(values[chosen].sum()) for values, chosen in strata)
    slack = _TIE * sum(float(np.abs(values).sum()) for values, _ in strata)
    sums, complete = _null_sums(strata, resamples, rng)
    if direction == "greater":
        extreme = sums >= observed - slack
    elif direction == "less":
        extreme = sums <= observed + slack
    else:
        extreme = np.abs(sums) >= abs(observed) - slack
    hits = int(np.count_nonzero(extreme))
    return (hits / sums.size if complete else (1 + hits) / (sums.size + 1)), ""


def _movable(scores: FloatArray, member: BoolArray, codes: IntArray) -> list[tuple[FloatArray, BoolArray]]:
    """Split into strata in which a relabelling can change something, centred so that E[sum] = 0."""
    order = np.argsort(codes, kind="stable")
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    strata = []
    for rows in np.split(order, cuts):
        values, chosen = scores[rows], member[rows]
        if chosen.any() and not chosen.all() and values.min() < values.max():
            strata.append((values - values.mean(), chosen))
    return strata


def _null_sums(
    strata: list[tuple[FloatArray, BoolArray]], resamples: int, rng: np.random.Generator
) -> tuple[FloatArray, bool]:
    """Return the private sums under relabelling, and whether they are all there are."""
    total = 1
    for values, chosen in strata:
        total = min(total * count_subsets(values.size, int(chosen.sum()), _EXHAUSTIVE), _EXHAUSTIVE + 1)
    if total <= _EXHAUSTIVE:
        sums = np.zeros(1)
        for values, chosen in strata:
            sums = np.add.outer(sums, all_subset_sums(values, int(chosen.sum()))).ravel()
        return sums, True
    sums = np.zeros(resamples)
    for values, chosen in strata:
        sums += random_subset_sums(values, int(chosen.sum()), resamples, rng)
    return sums, False


def _codes(
    strata_private: ArrayLike | None, strata_control: ArrayLike | None, n: int, m: int
) -> tuple[IntArray, IntArray]:
    """Return the strata as numbers; one stratum if none are given."""
    if strata_private is None and strata_control is None:
        return np.zeros(n, dtype=np.int64), np.zeros(m, dtype=np.int64)
    if strata_private is None or strata_control is None:
        msg = "strata_private and strata_control go together: give both or neither"
        raise InvalidInput(msg)
    first, second = np.asarray(strata_private), np.asarray(strata_control)
    if first.shape != (n,) or second.shape != (m,):
        msg = f"strata must have shapes [{n}] and [{m}], got {list(first.shape)} and {list(second.shape)}"
        raise InvalidInput(msg)
    codes = np.unique(np.concatenate([first, second]), return_inverse=True)[1].astype(np.int64)
    return codes[:n], codes[n:]


def _looks(looks: Sequence[int], rows: int) -> list[int]:
    """Check that the looks increase and that the last one exists."""
    sizes = [as_count(look, "a look", least=2) for look in looks]
    if not sizes or any(b <= a for a, b in pairwise(sizes)) or sizes[-1] > rows:
        msg = f"looks must be increasing row counts of at most {rows}, got {list(looks)}"
        raise InvalidInput(msg)
    return sizes
