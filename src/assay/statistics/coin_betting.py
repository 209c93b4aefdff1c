"""Betting on the secret itself: a sequential test of whether scores know a random split.

Each row of a pool was private or control by a secret draw of fixed size. Whoever did
not see the draw cannot predict it: given the rows revealed so far, the next coin is
private with a probability that is known exactly (rows left to draw over rows left).
The test turns each score into a bet on that coin at exactly these odds. Under the null
its wealth is a martingale, whatever the scores are and in whatever order rows come, so
that stopping at any time is valid (Ville's inequality): the chance that the wealth ever
reaches 1/alpha is at most alpha.

Unlike a process over random pairs it uses every row, needs no bounded scores, and bets
more on rows that say more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import InvalidInput

__all__ = ["CoinBetting", "CoinBettingProcess"]


_LARGEST = 700.0  # log wealth beyond which a p-value would underflow to zero


@dataclass(frozen=True)
class CoinBetting:
    """Sequential test of scores against a secret split.

    Parameters
    ----------
    fractions
        Bets a standardised score of 1, as shares of the wealth, each in (0, 1]. The
        wealth is divided evenly among them at the start and never moved, which is
        again a martingale; the best of them soon dominates.
    largest
        Largest share of the wealth put on one coin, in (0, 1).

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
    JRSS B 2024 (betting under known odds); Ville 1939 (anytime validity).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> coin = rng.permutation(200) < 100
    >>> process = CoinBetting().start([(200, 100)])
    >>> process.update(coin + rng.normal(size=200), coin)
    >>> process.p_value < 0.01
    True
    """

    fractions: tuple[float, ...] = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
    largest: float = 0.9

    def __post_init__(self) -> None:
        if not self.fractions or not all(0 < f <= 1 for f in self.fractions):
            msg = f"betting fractions must be in (0, 1], got {self.fractions}"
            raise InvalidInput(msg)
        if not 0 < self.largest < 1:
            msg = f"the largest bet must be in (0, 1), got {self.largest}"
            raise InvalidInput(msg)

    def start(self, totals: Sequence[tuple[int, int]]) -> CoinBettingProcess:
        """Begin with a pool of strata, each ``(rows, private rows)`` before anything is revealed."""
        for rows, private in totals:
            if not 0 <= private <= rows:
                msg = f"a stratum of {rows} rows cannot have {private} private ones"
                raise InvalidInput(msg)
        return CoinBettingProcess(self, totals)


class CoinBettingProcess:
    """The wealth of a running test; feed it rows with `update`."""

    def __init__(self, config: CoinBetting, totals: Sequence[tuple[int, int]]) -> None:
        self._config = config
        self._left = np.array([t[0] for t in totals], dtype=np.int64)
        self._private = np.array([t[1] for t in totals], dtype=np.int64)
        self._wealth = np.zeros(len(config.fractions))
        self._mean, self._variance, self._rows = 0.0, 1.0, 0
        self.path: list[float] = []

    @property
    def log_wealth(self) -> float:
        """Natural logarithm of the wealth now; an e-value at any stopping time."""
        return self.path[-1] if self.path else 0.0

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value: one over the largest wealth so far, at most 1."""
        return min(1.0, math.exp(-min(max(self.path, default=0.0), _LARGEST)))

    def stopped_at(self, alpha: float) -> int | None:
        """Return the number of rows after which the wealth first reached ``1/alpha``."""
        needed = -math.log(alpha)
        return next((i for i, w in enumerate(self.path, start=1) if w >= needed), None)

    def update(self, scores: ArrayLike, coins: ArrayLike, strata: ArrayLike | None = None) -> None:
        """Reveal rows: their scores (larger means more private), coins and strata.

        Parameters
        ----------
        scores
            Finite floats ``[k]``; they must not depend on the coins of these or later rows.
        coins
            True where the row was private, ``[k]``.
        strata
            Stratum of each row, int ``[k]``; zeros if not given.

        Raises
        ------
        InvalidInput
            If shapes differ, scores are not finite, or more rows are revealed than a
            stratum has.
        """
        values = np.asarray(scores, dtype=np.float64)
        secret = np.asarray(coins, dtype=bool)
        groups = np.zeros(len(values), np.int64) if strata is None else np.asarray(strata, np.int64)
        if not values.shape == secret.shape == groups.shape or values.ndim != 1:
            msg = (
                f"scores {values.shape}, coins {secret.shape} and strata {groups.shape} must be equal vectors"
            )
            raise InvalidInput(msg)
        if not np.isfinite(values).all():
            msg = "scores must be finite"
            raise InvalidInput(msg)
        for score, coin, group in zip(values.tolist(), secret.tolist(), groups.tolist(), strict=True):
            self._bet(score, coin, group)

    def _bet(self, score: float, coin: bool, group: int) -> None:  # noqa: FBT001 - one revealed coin
        if not 0 <= group < len(self._left) or self._left[group] <= 0:
            msg = f"stratum {group} has no rows left to reveal"
            raise InvalidInput(msg)
        odds = self._private[group] / self._left[group]
        if (coin and self._private[group] == 0) or (not coin and self._private[group] == self._left[group]):
            msg = f"stratum {group} has no {'private' if coin else 'control'} rows left to reveal"
            raise InvalidInput(msg)
        if 0 < odds < 1:  # a coin that is already known pays nothing
            # Standardised by rows already revealed only: the bet is placed before the coin.
            z = (score - self._mean) / math.sqrt(self._variance) if self._rows else score
            bets = np.clip(z * self._fractions, -self._config.largest, self._config.largest)
            self._wealth += np.log1p(bets * ((coin - odds) / max(odds, 1 - odds)))
        self._left[group] -= 1
        self._private[group] -= coin
        self._rows += 1
        self._mean += (score - self._mean) / (self._rows + 1)
        self._variance += ((score - self._mean) ** 2 - self._variance) / (self._rows + 5)
        top = float(self._wealth.max())
        self.path.append(top + math.log(float(np.exp(self._wealth - top).mean())))

    @property
    def _fractions(self) -> NDArray[np.float64]:
        return np.asarray(self._config.fractions)
