"""Which part of input space an input lies in, by the signs of secret projections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.defences.sketch import Sketch
from assay.errors import InvalidInput

__all__ = ["Buckets"]

_FEWEST, _MOST = 3, 16


@dataclass(frozen=True)
class Buckets:
    """Parts of input space: ``2 ** bits`` of them, one for each pattern of signs.

    Parameters
    ----------
    secret
        Whoever does not know it cannot aim at one bucket.
    bits
        Number of projections, 3 to 16.
    centre
        Their values for a typical input, ``bits`` numbers: the signs are those of the
        differences to it, so that trusted traffic falls on both sides of each. Zero
        unless given. See `fit`.

    References
    ----------
    Dubiński et al., "Bucks for Buckets (B4B)", NeurIPS 2023; Charikar,
    "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(500, 20)) + 3
    >>> buckets = Buckets(b"secret", bits=4)
    >>> fitted = buckets.fit(rows)
    >>> len(set(fitted.of(rows))) > len(set(buckets.of(rows)))
    True
    """

    secret: bytes
    bits: int = 12
    centre: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not _FEWEST <= self.bits <= _MOST:
            msg = f"bits must lie in {_FEWEST} to {_MOST}, got {self.bits}"
            raise InvalidInput(msg)
        if self.centre and (len(self.centre) != self.bits or not np.isfinite(self.centre).all()):
            msg = f"the centre must be {self.bits} finite numbers, got {len(self.centre)} values"
            raise InvalidInput(msg)

    @property
    def count(self) -> int:
        """Number of buckets."""
        return 1 << self.bits

    def fit(self, rows: NDArray[np.floating]) -> Buckets:
        """Return buckets whose projections each halve these rows, float ``[n, d]``."""
        medians = np.median(self._sketch(rows), axis=0)
        return Buckets(self.secret, self.bits, tuple(float(m) for m in medians))

    def of(self, rows: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the bucket of each row, int64 ``[n]`` in ``0 .. count - 1``."""
        above = self._sketch(rows) > (np.array(self.centre) if self.centre else 0.0)
        return above @ (1 << np.arange(self.bits, dtype=np.int64))

    def _sketch(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        return Sketch(b"buckets\0" + self.secret, self.bits)(rows)
