"""What CopyCat and random Knockoff share: rows drawn at random from a pool that need not be the task's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.data.pools import synthesise
from assay.extraction.strategy import Learned, QueryStrategy
from assay.ledger import Ledger

__all__ = ["RandomDraw"]

_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class RandomDraw(QueryStrategy):
    """Base of attacks that ask random rows once and train once.

    Parameters
    ----------
    inputs
        ``"pool"`` to ask the pool itself, without replacement; or a kind of
        `assay.data.pools.POOLS`, to ask inputs that are made from its rows.
    queries
        Most queries to ask; None for as many as the budget allows, or, without a
        budget, for as many as the pool has rows.
    per_round
        Most queries between two trainings; None for one training at the end.
    """

    per_round: int | None = None
    inputs: Literal["pool", "noise", "inversions", "blends", "shuffles", "sign-noise"] = "pool"

    def limit(self, oracle: Ledger, pool: Dataset) -> int:
        """Return the most queries; inputs that are made have no end of their own."""
        if self.inputs == "pool":
            return super().limit(oracle, pool)
        bounds = [bound for bound in (self.queries, oracle.remaining) if bound is not None]
        return min(bounds, default=len(pool))

    def propose(self, learned: Learned, count: int) -> Tensor:
        """Return random rows of the pool that were not asked yet, or fresh inputs made from its rows."""
        if self.inputs != "pool":
            # Blocks have seeds of their own and one size, so that fewer queries ask a prefix.
            size = max(_BLOCK, len(learned.pool))
            seeds = torch.randint(2**31, (-(-count // size),), generator=learned.generator).tolist()
            made = [synthesise(learned.pool, self.inputs, size, rng=seed).x for seed in seeds]
            return torch.cat(made)[:count]
        rows = (~learned.taken).nonzero()[:, 0]
        chosen = rows[torch.randperm(len(rows), generator=learned.generator)[:count]]
        learned.taken[chosen] = True
        return learned.pool.x[chosen]
