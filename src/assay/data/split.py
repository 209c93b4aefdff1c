"""Secret, committed splits: the randomness on which split-based ownership tests stand."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import EvidenceTampered, InvalidInput

__all__ = ["Split", "commit_split", "deduplicate", "verify_commitment"]

_DOMAIN = b"assay.split.v1"
_NONCE_BYTES = 32
_SMALLEST_SIDE = 2
_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Split:
    """A pool and the secret coin of each of its rows.

    The victim is trained on `private` and never sees `control`. Whoever knows nothing of
    the coin cannot tell one side from the other, so for a suspect that is independent of
    the victim the sides are exchangeable (within classes, if stratified) and a
    permutation test of them is exact. ``coin`` and ``nonce`` stay secret until a
    dispute; `commitment` is published, or time-stamped, before.

    Parameters
    ----------
    pool
        All rows, without exact duplicates.
    coin
        Whether a row is private, bool ``[n]``; at least 2 rows a side.
    nonce
        32 secret bytes that make the commitment hide the coin.
    stratified
        Whether the numbers of private rows were fixed within each class. A test must
        then permute within classes only.

    Raises
    ------
    InvalidInput
        If the parts do not fit together.

    Examples
    --------
    >>> pool = Dataset(torch.rand(10, 3), torch.arange(10) % 2, ("a", "b"))
    >>> split = commit_split(pool, private=4, rng=0)
    >>> len(split.private), len(split.control), len(split.commitment)
    (4, 6, 64)
    """

    pool: Dataset
    coin: Tensor = field(repr=False)
    nonce: bytes = field(repr=False)
    stratified: bool = False

    def __post_init__(self) -> None:
        _check_parts(self.pool, self.coin, self.nonce)
        sides = int(self.coin.sum()), int((~self.coin).sum())
        if min(sides) < _SMALLEST_SIDE:
            msg = f"a split needs at least {_SMALLEST_SIDE} rows a side, got {sides[0]} and {sides[1]}"
            raise InvalidInput(msg)

    @cached_property
    def private(self) -> Dataset:
        """The rows on which the victim is trained."""
        return self.pool.subset(self.coin, f"{self.pool.name}-private")

    @cached_property
    def control(self) -> Dataset:
        """The rows that nobody may train on."""
        return self.pool.subset(~self.coin, f"{self.pool.name}-control")

    @cached_property
    def commitment(self) -> str:
        """SHA-256 over pool, coin and nonce: binding, and hiding as long as the nonce is secret."""
        return _digest(self.pool, self.coin, self.nonce, stratified=self.stratified)

    def save(self, folder: str | Path) -> None:
        """Write ``pool.npz`` and ``split.json`` (readable by its owner only: it holds the secret)."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self.pool.save(target / "pool.npz")
        record = {
            "schema": _SCHEMA,
            "commitment": self.commitment,
            "pool_digest": self.pool.digest,
            "pool_name": self.pool.name,
            "rows": len(self.pool),
            "stratified": self.stratified,
            "coin": np.packbits(self.coin.numpy()).tobytes().hex(),
            "nonce": self.nonce.hex(),
        }
        path = target / "split.json"
        path.unlink(missing_ok=True)
        # Created with narrow rights, not narrowed afterwards, so that no moment is left to read it.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)

    @classmethod
    def load(cls, folder: str | Path, pool: Dataset | None = None) -> Split:
        """Read what `save` wrote and check it against its own commitment.

        Parameters
        ----------
        folder
            The folder.
        pool
            The pool, if ``pool.npz`` was not kept.

        Raises
        ------
        InvalidInput
            If files are missing or malformed.
        EvidenceTampered
            If pool, coin or nonce are not those that were committed.
        """
        path = Path(folder) / "split.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            rows, stratified, name = record["rows"], record["stratified"], record["pool_name"]
            packed, nonce = bytes.fromhex(record["coin"]), bytes.fromhex(record["nonce"])
            commitment = record["commitment"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"cannot read {path} as a saved split: {error!r}"
            raise InvalidInput(msg) from error
        if (
            record.get("schema") != _SCHEMA
            or not isinstance(rows, int)
            or not isinstance(stratified, bool)
            or len(packed) != math.ceil(rows / 8)
        ):
            msg = f"{path} is no saved split of schema {_SCHEMA}"
            raise InvalidInput(msg)
        pool = Dataset.load(path.with_name("pool.npz"), str(name)) if pool is None else pool
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=rows).astype(bool)
        coin = torch.from_numpy(bits)
        if len(pool) != rows or not verify_commitment(
            commitment, pool=pool, coin=coin, nonce=nonce, stratified=stratified
        ):
            msg = f"{path}: pool, coin and nonce do not match the commitment {commitment}"
            raise EvidenceTampered(msg)
        return cls(pool, coin, nonce, stratified)


def commit_split(
    pool: Dataset, *, private: float = 0.5, stratify: bool = False, rng: int | None = None
) -> Split:
    """Draw a secret split of a pool, uniformly among all splits of its size.

    Exact duplicates are dropped first: one on either side would make a control row a
    row of the training set.

    Parameters
    ----------
    pool
        The rows to split, at least 4 distinct ones.
    private
        Share of the rows that become private (a float between 0 and 1), or their number
        (an int). Shares are rounded to the nearest number of rows.
    stratify
        Whether each class gets its proportional number of private rows (rounded by
        largest remainder), instead of a random one.
    rng
        None draws from the operating system's source of secrets, as evidence for a real
        dispute must. A seed makes the split reproducible; the seed is then the secret,
        and whoever can guess it can guess the split.

    Returns
    -------
    Split
        With the deduplicated pool.

    Raises
    ------
    InvalidInput
        If fewer than 2 rows were left on a side.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference: Ownership Resolution in Machine
    Learning", ICLR 2021, for tests of private against public rows; the secret random
    split of one pool replaces their official train and test sets, which are not
    exchangeable.

    Examples
    --------
    >>> pool = Dataset(torch.arange(40.0).view(20, 2) / 40, torch.arange(20) % 2, ("a", "b"))
    >>> split = commit_split(pool, stratify=True, rng=7)
    >>> split.private.y.bincount().tolist()
    [5, 5]
    """
    pool = deduplicate(pool)
    count = _private_rows(len(pool), private)
    chosen = np.zeros(len(pool), dtype=bool)
    source = _source(rng)
    for rows, take in _strata(pool.y.numpy(), count) if stratify else [(np.arange(len(pool)), count)]:
        chosen[rows[_sample(source, len(rows), take)]] = True
    if rng is None:
        nonce = secrets.token_bytes(_NONCE_BYTES)
    else:
        nonce = hashlib.sha256(_DOMAIN + b".nonce" + str(rng).encode() + pool.digest.encode()).digest()
    return Split(pool, torch.from_numpy(chosen), nonce, stratify)


def deduplicate(dataset: Dataset) -> Dataset:
    """Drop rows whose input is exactly that of an earlier row, whatever its label.

    Examples
    --------
    >>> twice = Dataset(torch.tensor([[0.5], [0.1], [0.5]]), torch.tensor([0, 1, 1]), ("a", "b"))
    >>> deduplicate(twice).y.tolist()
    [0, 1]
    """
    # Adding 0.0 turns -0.0 into 0.0, which is the same input.
    rows = np.ascontiguousarray(dataset.x.flatten(1).numpy())
    seen: set[bytes] = set()
    first = []
    for i, row in enumerate(rows):
        key = hashlib.sha256((row + 0.0).tobytes()).digest()
        if key not in seen:
            seen.add(key)
            first.append(i)
    return dataset if len(first) == len(dataset) else dataset.subset(first)


def verify_commitment(
    commitment: str, *, pool: Dataset, coin: Tensor, nonce: bytes, stratified: bool = False
) -> bool:
    """Whether a published commitment is the one of this pool, coin and nonce.

    Parameters
    ----------
    commitment
        64 hexadecimal digits.
    pool, coin, nonce, stratified
        What is revealed; see `Split`.

    Raises
    ------
    InvalidInput
        If the commitment is no SHA-256 digest or the parts do not fit together.

    Examples
    --------
    >>> pool = Dataset(torch.rand(10, 3), torch.arange(10) % 2, ("a", "b"))
    >>> split = commit_split(pool)
    >>> verify_commitment(split.commitment, pool=pool, coin=split.coin, nonce=split.nonce)
    True
    >>> verify_commitment(split.commitment, pool=pool, coin=~split.coin, nonce=split.nonce)
    False
    """
    if not isinstance(commitment, str) or len(commitment) != 64 or set(commitment) - set("0123456789abcdef"):  # noqa: PLR2004
        msg = f"a commitment is 64 hexadecimal digits, got {commitment!r}"
        raise InvalidInput(msg)
    _check_parts(pool, coin, nonce)
    return hmac.compare_digest(commitment, _digest(pool, coin, nonce, stratified=stratified))


def _check_parts(pool: Dataset, coin: Any, nonce: Any) -> None:
    if not isinstance(coin, Tensor) or coin.dtype != torch.bool or coin.shape != (len(pool),):
        msg = f"the coin of {pool.name} must be a bool tensor [{len(pool)}]"
        raise InvalidInput(msg)
    if not isinstance(nonce, bytes) or len(nonce) != _NONCE_BYTES:
        msg = f"the nonce of a split must be {_NONCE_BYTES} bytes"
        raise InvalidInput(msg)


def _digest(pool: Dataset, coin: Tensor, nonce: bytes, *, stratified: bool) -> str:
    # Every field has a fixed length but the coin bits, whose number comes first: no two inputs read alike.
    parts = (
        _DOMAIN,
        bytes.fromhex(pool.digest),
        len(pool).to_bytes(8, "big"),
        bytes([stratified]),
        np.packbits(coin.numpy()).tobytes(),
        nonce,
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _private_rows(rows: int, private: float) -> int:
    if isinstance(private, bool) or not isinstance(private, (int, float)):
        msg = f"private must be a share between 0 and 1 or a number of rows, got {private!r}"
        raise InvalidInput(msg)
    if isinstance(private, float) and not 0 < private < 1:
        msg = f"a share of private rows must lie between 0 and 1, got {private}; a number is an int"
        raise InvalidInput(msg)
    count = private if isinstance(private, int) else round(rows * private)
    if not _SMALLEST_SIDE <= count <= rows - _SMALLEST_SIDE:
        msg = (
            f"{count} private of {rows} distinct rows leaves fewer than {_SMALLEST_SIDE} on a side; "
            "give more rows or another share"
        )
        raise InvalidInput(msg)
    return count


def _source(rng: int | None) -> secrets.SystemRandom | np.random.Generator:
    if rng is None:
        return secrets.SystemRandom()
    if isinstance(rng, bool) or not isinstance(rng, int) or rng < 0:
        msg = f"rng must be None or a seed, an integer >= 0, got {rng!r}"
        raise InvalidInput(msg)
    return np.random.default_rng(rng)


def _sample(source: secrets.SystemRandom | np.random.Generator, rows: int, take: int) -> np.ndarray:
    """Draw ``take`` of ``rows`` positions, each subset equally likely."""
    if isinstance(source, np.random.Generator):
        return source.permutation(rows)[:take]
    return np.array(source.sample(range(rows), take), dtype=np.int64)


def _strata(y: np.ndarray, count: int) -> list[tuple[np.ndarray, int]]:
    """Share ``count`` private rows among the classes, by largest remainder."""
    groups = [np.flatnonzero(y == c) for c in np.unique(y)]
    exact = np.array([count * len(g) / len(y) for g in groups])
    take = np.floor(exact).astype(int)
    by_remainder = np.argsort(take - exact, kind="stable")
    take[by_remainder[: count - take.sum()]] += 1
    return [(g, int(t)) for g, t in zip(groups, take, strict=True)]
