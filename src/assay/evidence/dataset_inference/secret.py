"""The secret of dataset inference: which rows trained the victim, and what it could have been."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.data.dataset import Dataset

__all__ = ["Secret", "draw_secret"]


@dataclass(frozen=True, eq=False)
class Secret:
    """Coins of the kept rows, and the law they were drawn from.

    Parameters
    ----------
    coin
        True where a kept row is private, bool ``[n]``.
    strata
        Stratum of each kept row, int64 ``[n]``: its class, or 0 for all.
    totals
        For each stratum the rows and private rows of the pool that the kept ones come
        from. Given these, every assignment of coins was equally likely.
    """

    coin: NDArray[np.bool_]
    strata: NDArray[np.int64]
    totals: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, pool: Dataset, coin: Tensor, kept: Tensor, hidden: Tensor, *, stratify: bool) -> Secret:
        """Return the secret of the rows ``kept`` of a pool.

        Parameters
        ----------
        pool, coin
            The rows of both sides and which of them are private.
        kept
            Positions of the rows that a suspect will be asked about.
        hidden
            Rows whose coin is used for nothing else, bool ``[n]``: all rows, less those
            that a scorer was fitted on.
        stratify
            Condition on the number of private rows in each class.
        """
        groups = pool.y if stratify else torch.zeros_like(pool.y)
        totals = []
        for group in range(pool.num_classes if stratify else 1):
            inside = (groups == group) & hidden
            totals.append((int(inside.sum()), int((inside & coin).sum())))
        return cls(coin[kept].numpy(), groups[kept].numpy(), tuple(totals))

    def prefix(self, rows: int) -> Secret:
        """Return the secret of the first rows."""
        return Secret(self.coin[:rows], self.strata[:rows], self.totals)


def draw_secret(secret: Secret, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw coins for the same rows afresh, as they could have been drawn."""
    coin = np.zeros(len(secret.coin), dtype=bool)
    for group, (rows, private) in enumerate(secret.totals):
        here = np.flatnonzero(secret.strata == group)
        pool = np.zeros(rows, dtype=bool)
        pool[rng.permutation(rows)[:private]] = True
        coin[here] = pool[: len(here)]
    return coin
