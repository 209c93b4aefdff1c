"""A key, the target classes that follow from it, and the exact test of them.

The targets are the secret. They follow from the key and the trigger inputs by a hash
function, so that nobody can pick targets which independent models happen to answer:
the only way to better ones is to try keys, about ``1/p`` of them for a p-value of ``p``.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from itertools import count

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay.errors import EvidenceTampered, InvalidInput
from assay.evidence.bundle import tensor_digests

__all__ = ["derive", "draw_key", "key_targets", "queries_needed", "randomisation_p_value"]

IntArray = NDArray[np.int64]
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
    # Words above the largest multiple of `classes` are skipped: a remainder alone would favour low classes.
    limit = 2**64 - 2**64 % classes
    targets: list[int] = []
    for block in count():
        digest = hashlib.sha256(f"{seed}|{block}".encode()).digest()
        words = [int.from_bytes(digest[i : i + 8], "big") for i in range(0, 32, 8)]
        targets += [word % classes for word in words if word < limit]
        if len(targets) >= marks:
            break
    return np.array(targets[:marks], dtype=np.int64)


def randomisation_p_value(answers: IntArray, targets: IntArray) -> float:
    """Exact share of all keys that would have matched at least as many answers.

    The queried inputs do not depend on the targets. For a suspect that is independent of
    the targets, all ``classes ** marks`` target vectors are therefore equally likely given
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

    Returns
    -------
    float
        In (0, 1], correctly rounded; at least ``classes ** -marks``.

    Examples
    --------
    >>> randomisation_p_value(np.array([[3, 0], [0, 3]]), np.array([0, 1]))
    0.25
    >>> randomisation_p_value(np.array([[3, 0], [3, 0]]), np.array([0, 1]))
    0.75
    """
    marks, classes = answers.shape
    # Whole numbers of keys, not probabilities: p = alpha must not be lost to rounding, nor p to underflow.
    keys = np.ones(1, dtype=object)
    for row in answers:
        longer = np.zeros(keys.size + int(row.max()), dtype=object)
        for matched, ways in zip(*np.unique(row, return_counts=True), strict=True):
            longer[matched : matched + keys.size] += keys * int(ways)
        keys = longer
    observed = int(answers[np.arange(marks), targets].sum())
    p: float = int(keys[observed:].sum()) / classes**marks
    return max(p, float(np.finfo(np.float64).tiny))


def queries_needed(alpha: float, classes: int) -> int:
    """Return the fewest triggers, each of another mark, whose p-value can reach ``alpha``.

    Examples
    --------
    >>> queries_needed(0.01, 10), queries_needed(0.01, 2)
    (2, 7)
    """
    return next(queries for queries in count(1) if 1 / classes**queries <= alpha)
