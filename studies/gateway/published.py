"""The published scheme on the same queries: one puzzle for each 1,000, on a sum of epsilons.

Everything is the paper's: single conversions, the line through honest users, the
exponential of the deviation, whole bits, free identities. Only the slope and the intercept
are fitted to the honest traffic of this study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.gateway.policy import PaperPricing
from assay.gateway.pricing.regression import fit_line
from assay.gateway.simulation import LogRow, replay
from assay.privacy import EpsilonTable
from assay.privacy.orders import PUBLISHED_ORDERS

ROW = 1000
ACCOUNTS = 10


@dataclass(frozen=True)
class Published:
    """Seconds of puzzles in the published scheme, for a thief and for an honest user of as many queries.

    ``single`` is one account, ``split`` ten, ``padded`` one that keeps its total at the
    honest line with the cheapest honest queries.
    """

    epsilon: float
    single: float
    split: float
    padded: float
    honest: float


class Scheme:
    """The published accounts and prices, fitted to honest queries."""

    def __init__(self, honest: np.ndarray, sigma: float, delta: float = 1e-5) -> None:
        self.table = EpsilonTable(sigma, delta, orders=PUBLISHED_ORDERS)
        self.costs = self.table(honest)
        generator = np.random.default_rng(0)
        counts = np.arange(1, ROW * 10 + 1)
        total = generator.choice(self.costs, len(counts)).cumsum()
        line = fit_line(counts[ROW - 1 :: ROW].astype(float), total[ROW - 1 :: ROW])
        self.paper = PaperPricing(slope=float(line.slope), intercept=float(line.intercept))
        self.generator = generator

    def seconds(self, costs: np.ndarray) -> float:
        """Return the puzzle time of one account that asks queries of these costs."""
        total, n = costs.cumsum(), len(costs)
        ends = sorted({*range(ROW, n + 1, ROW), n})
        return replay(self.paper, [LogRow(float(k), float(total[k - 1]), 0.0) for k in ends])

    def bill(self, log_q: np.ndarray) -> Published:
        """Return what a theft with these queries, in this order, pays."""
        costs = self.table(log_q)
        n = len(costs)
        honest = self.generator.choice(self.costs, n)
        parts: Sequence[np.ndarray] = np.array_split(costs, ACCOUNTS)
        return Published(
            epsilon=float(costs.mean()),
            single=self.seconds(costs),
            split=float(sum(self.seconds(part) for part in parts)),
            padded=self.seconds(self._padded(costs)),
            honest=self.seconds(honest),
        )

    def _padded(self, costs: np.ndarray) -> np.ndarray:
        """Insert cheap (or, for a cheap theft, dear) honest queries that pull the mean to the line."""
        slope, mean = self.paper.slope, float(costs.mean())
        pad = float(self.costs.min() if mean > slope else self.costs.max())
        if (slope - pad) * (mean - slope) <= 0:
            return costs
        pads = (mean - slope) / (slope - pad)  # for each query of the theft
        places = np.floor(np.arange(1, len(costs) + 1) * pads).astype(int)
        before = np.diff(np.concatenate([[0], places]))
        return np.concatenate([np.r_[cost, np.full(k, pad)] for cost, k in zip(costs, before, strict=True)])
