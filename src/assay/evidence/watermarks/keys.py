"""A key, the target classes that follow from it, and the exact test of them.

The targets are the secret. They follow from the key and the trigger inputs by a hash
function, so that nobody can pick targets which independent models happen to answer:
the only way to better ones is to try keys, about ``1/p`` of them for a p-value of ``p``.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay.errors import EvidenceTampered, InvalidInput
from assay.evidence.bundle import tensor_digests

__all__ = [
    "Choices",
    "derive",
    "draw_choices",
    "draw_key",
    "key_targets",
    "queries_needed",
    "randomisation_p_value",
]

IntArray = NDArray[np.int64]
Choices: TypeAlias = Sequence[Sequence[int]]
"""Classes among which the key draws the target of each mark."""
_BITS = 256
_HEX = re.compile(r"[0-9a-f]{64}")


def draw_key(secret: int | None = None) -> str:
    """Return a key of 64 hex digits, from the operating system unless ``secret`` is given.

    Parameters
    ----------
    secret
        Whole number in ``0 .. 2**256 - 1`` for experiments that must be repeatable. It
        is then the secret: whoever guesses it knows the mark.

    Raises
    ------
    InvalidInput
        If the number is out of range.

    Examples
    --------
    >>> draw_key(255)[-4:], len(draw_key())
    ('00ff', 64)
    """
    if secret is None:
        return secrets.token_hex(_BITS // 8)
    if not 0 <= secret < 2**_BITS:
        msg = f"a key must be a whole number in 0 .. 2**{_BITS} - 1, got {secret}"
        raise InvalidInput(msg)
    return f"{secret:0{_BITS // 4}x}"


def derive(key: str, purpose: str) -> str:
    """Return a digest for one purpose; digests for other purposes tell nothing about it.

    Raises
    ------
    EvidenceTampered
        If ``key`` is no key.

    Examples
    --------
    >>> derive(draw_key(1), "a") == derive(draw_key(1), "b")
    False
    """
    if not isinstance(key, str) or not _HEX.fullmatch(key):
        msg = "the key of a trigger set must be 64 lower-case hex digits; the bundle was not written by Assay"
        raise EvidenceTampered(msg)
    return hashlib.sha256(f"assay.trigger-set.v1|{key}|{purpose}".encode()).hexdigest()


def key_targets(key: str, triggers: Tensor, marks: int, classes: int) -> IntArray:
    """Return the target class of each mark, uniform over the classes.

    Parameters
    ----------
    key
        64 hex digits.
    triggers
        The committed trigger inputs; other inputs have other targets.
    marks, classes
        How many targets, and among how many classes.

    Returns
    -------
    numpy.ndarray
        int64 ``[marks]`` in ``0 .. classes - 1``.

    Raises
    ------
    EvidenceTampered
        If ``key`` is no key.

    Examples
    --------
    >>> import torch
    >>> first = key_targets(draw_key(1), torch.zeros(2, 3), marks=6, classes=10)
    >>> first.shape, bool((first == key_targets(draw_key(2), torch.zeros(2, 3), 6, 10)).all())
    ((6,), False)
    """
    seed = derive(key, "targets|" + tensor_digests({"triggers": triggers})["triggers"])
    return np.fromiter(_draw(seed, [classes] * marks), dtype=np.int64, count=marks)


def draw_choices(key: str, triggers: Tensor, choices: Choices) -> IntArray:
    """Return the target of each mark, uniform over the candidate classes of that mark.

    Candidates may have been picked in any way that does not look at this key: by what
    clean models find plausible, or by rehearsals under other keys.

    Parameters
    ----------
    key
        64 hex digits.
    triggers
        The committed trigger inputs; other inputs have other targets.
    choices
        Candidate classes of each mark, distinct, at least one each. Other candidates
        have other targets.

    Returns
    -------
    numpy.ndarray
        int64 ``[marks]``, ``targets[j]`` in ``choices[j]``.

    Raises
    ------
    EvidenceTampered
        If ``key`` is no key.

    Examples
    --------
    >>> import torch
    >>> targets = draw_choices(draw_key(1), torch.zeros(2, 3), [[0, 4], [7], [1, 2, 3]])
    >>> targets[0] in (0, 4), int(targets[1]), targets[2] in (1, 2, 3)
    (True, 7, True)
    """
    listed = json.dumps([[int(c) for c in candidates] for candidates in choices])
    seed = derive(key, "choices|" + tensor_digests({"triggers": triggers})["triggers"] + "|" + listed)
    drawn = _draw(seed, [len(candidates) for candidates in choices])
    return np.array([candidates[d] for candidates, d in zip(choices, drawn, strict=True)], dtype=np.int64)


def _draw(seed: str, sizes: Sequence[int]) -> Iterator[int]:
    """Yield one whole number in ``0 .. size - 1`` for each size."""
    words = _words(seed)
    for size in sizes:
        # Words above the largest multiple of `size` are skipped: a remainder alone would favour low ones.
        limit = 2**64 - 2**64 % size
        yield next(word for word in words if word < limit) % size


def _words(seed: str) -> Iterator[int]:
    for block in count():
        digest = hashlib.sha256(f"{seed}|{block}".encode()).digest()
        yield from (int.from_bytes(digest[i : i + 8], "big") for i in range(0, 32, 8))


def randomisation_p_value(answers: IntArray, targets: IntArray, choices: Choices | None = None) -> float:
    """Exact share of all keys that would have matched at least as many answers.

    The queried inputs do not depend on the targets. For a suspect that is independent of
    the targets, all ``classes ** marks`` target vectors (the product of the numbers of
    candidates, where each mark has candidates of its own) are therefore equally likely given
    its answers, whatever they are, and the share of vectors with at least as many matches
    as the true one is a p-value that is valid in finite samples. It is the decoy-key rank
    test with every possible key as a decoy. The number of matches of a random vector is
    a sum of independent terms, one a mark, so that all keys are counted by a convolution
    and none has to be sampled. Ties count against the claim.

    Parameters
    ----------
    answers
        How often each mark was answered with each class, int64 ``[marks, classes]``.
    targets
        True target of each mark, int64 ``[marks]``.
    choices
        Classes among which the key drew each target; all classes if None.

    Returns
    -------
    float
        In (0, 1], correctly rounded; at least one in the number of target vectors.

    Examples
    --------
    >>> randomisation_p_value(np.array([[3, 0], [0, 3]]), np.array([0, 1]))
    0.25
    >>> randomisation_p_value(np.array([[3, 0], [3, 0]]), np.array([0, 1]))
    0.75
    >>> randomisation_p_value(np.array([[3, 0, 0], [0, 3, 0]]), np.array([0, 1]), [[0, 1], [0, 1, 2]])
    0.16666666666666666
    """
    marks, classes = answers.shape
    listed = [range(classes)] * marks if choices is None else choices
    # Whole numbers of keys, not probabilities: p = alpha must not be lost to rounding, nor p to underflow.
    keys, total = np.ones(1, dtype=object), 1
    for asked, candidates in zip(answers, listed, strict=True):
        row = Counter(asked[list(candidates)].tolist())
        most = max(row)
        if most == 0:
            continue  # not asked, or only answered with no candidate: the same share of keys either way
        total *= row.total()
        longer = np.zeros(keys.size + most, dtype=object)
        for matched, ways in row.items():
            longer[matched : matched + keys.size] += keys * ways
        keys = longer
    observed = int(answers[np.arange(marks), targets].sum())
    p: float = int(keys[observed:].sum()) / total
    return max(p, float(np.finfo(np.float64).tiny))


def queries_needed(alpha: float, classes: int | Sequence[int]) -> int:
    """Return the fewest triggers, each of another mark, whose p-value can reach ``alpha``.

    Parameters
    ----------
    alpha
        Level above 0.
    classes
        Number of classes; or the number of candidates of each mark, in the order in which
        the marks are asked.

    Returns
    -------
    int
        At least 1. One more than there are marks if all of them do not reach ``alpha``.

    Examples
    --------
    >>> queries_needed(0.01, 10), queries_needed(0.01, 2), queries_needed(0.01, [10, 2, 2, 3])
    (2, 7, 4)
    """
    if isinstance(classes, int):
        return next(queries for queries in count(1) if 1 / classes**queries <= alpha)
    keys = accumulate(classes, lambda product, size: product * size)
    return next((queries for queries, number in enumerate(keys, 1) if 1 / number <= alpha), len(classes) + 1)
