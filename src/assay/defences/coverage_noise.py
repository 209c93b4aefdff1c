"""Noise that grows with how much of the input space an account has asked about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtri

from assay.defences.answering import Answering, Asked, FloatArray, secret_bytes
from assay.defences.buckets import Buckets
from assay.errors import InvalidInput
from assay.registry import register

__all__ = ["CoverageNoise"]

_TAG = b"assay/coverage-noise/1\0"
# Rounding to float64 may reach 1, whose quantile is infinite.
_EDGE = 1e-15


@register("coverage-noise", kind="defence")
@dataclass(frozen=True, kw_only=True)
class CoverageNoise(Answering):
    """Add noise whose size rises steeply once an account has asked nearly everywhere.

    An account that occupies a share ``c`` of the buckets of input space gets noise of
    standard deviation ``floor (exp(log(ceiling / floor) c / knee) - 1)``, clipped and
    normalised. A user with a narrow task stays below the knee and sees the model as it is.

    Parameters
    ----------
    key
        At least 32 hex digits. A gateway derives it from its own secret when it is left out.
    floor, ceiling
        Above 0: the standard deviation is about ``floor`` while little is covered, and
        ``ceiling`` at the knee.
    knee
        Share of buckets at which the noise reaches ``ceiling``, above 0 and at most 1.
    bits
        There are ``2 ** bits`` buckets, 3 to 16.

    References
    ----------
    Dubiński et al., "Bucks for Buckets (B4B)", NeurIPS 2023, there on the
    embeddings of encoders.

    Examples
    --------
    >>> noise = CoverageNoise(key="ab" * 16)
    >>> [f"{noise.scale(share):.0e}" for share in (0.1, 0.4, 0.8)]
    ['6e-07', '3e-04', '1e+00']
    """

    name: ClassVar[str] = "coverage-noise"

    key: str = ""
    floor: float = 1e-7
    ceiling: float = 1.0
    knee: float = 0.8
    bits: int = 12

    def __post_init__(self) -> None:
        if not (0 < self.floor <= self.ceiling < np.inf and 0 < self.knee <= 1):
            msg = f"0 < floor <= ceiling and 0 < knee <= 1, got {self.floor}, {self.ceiling}, {self.knee}"
            raise InvalidInput(msg)
        Buckets(b"", self.bits)

    def ready(self) -> None:
        """Refuse to serve without a key."""
        secret_bytes(self.key, "coverage-noise")

    def scale(self, share: float) -> float:
        """Return the standard deviation of the noise for a share of covered buckets."""
        return float(self.floor * np.expm1(np.log(self.ceiling / self.floor) * share / self.knee))

    def coverage(self) -> Callable[[FloatArray], float]:
        """Return a meter of one caller's coverage."""
        buckets = Buckets(secret_bytes(self.key, "coverage-noise"), self.bits)
        seen = np.zeros(buckets.count, dtype=bool)

        def meter(rows: FloatArray) -> float:
            seen[buckets.of(rows)] = True
            return float(seen.mean())

        return meter

    def answer(self, scores: FloatArray, asked: Asked) -> FloatArray:
        """Return noisy scores, float64 ``[n, k]``; repeats of an input share one direction of noise."""
        noise = self._drawn(asked.fingerprints, scores.shape[1])
        noisy = np.clip(scores + self.scale(asked.coverage) * noise, 0.0, None)
        total = noisy.sum(axis=1, keepdims=True)
        return np.where(total > 0, noisy / np.where(total > 0, total, 1.0), scores)

    def _drawn(self, names: tuple[bytes, ...], width: int) -> FloatArray:
        """Return standard normal numbers ``[n, width]`` that follow from the secret and the names."""
        secret = secret_bytes(self.key, "coverage-noise")
        words = b"".join(hashlib.shake_128(_TAG + secret + name).digest(8 * width) for name in names)
        uniform = (np.frombuffer(words, dtype=">u8").reshape(-1, width) + 0.5) / 2.0**64
        return np.asarray(ndtri(np.clip(uniform, _EDGE, 1 - _EDGE)))
