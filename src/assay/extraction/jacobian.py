"""Jacobian-based augmentation: few inputs of the task, and steps along the copy's own gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.extraction.strategy import Learned, QueryStrategy
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import Network
from assay.registry import register

__all__ = ["Jacobian"]

_ROWS_AT_A_TIME = 256


@register("jacobian", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class Jacobian(QueryStrategy):
    """Grow a few inputs of the task along the signs of the copy's gradients, round by round.

    Each round takes inputs asked before, moves every coordinate by ``step`` along the
    sign of the gradient of the copy's loss, and asks about the results. Further
    hyperparameters are those of `assay.extraction.strategy.QueryStrategy`.

    Parameters
    ----------
    seeds
        Rows of the pool to begin with, at least 1; the rest of the pool is not used.
    step
        Length of a step in each coordinate, as a share of the value range (of each
        column's observed span where the range has no limits), above 0.
    direction
        ``"away"`` climbs the loss of the victim's label, towards the boundary (the
        non-targeted form of Juuti et al.); ``"target"`` descends the loss of a random
        other class (their T-RND); ``"label"`` descends the loss of the victim's label,
        which is the sign that Papernot et al. write with the Jacobian of that class.
    rounds
        Most rounds after the first, at least 0; without a limit of queries each doubles
        their number.
    per_round
        Most parents of a round, drawn at random from everything asked so far.

    References
    ----------
    Papernot, McDaniel, Goodfellow, Jha, Celik and Swami, "Practical Black-Box Attacks
    against Machine Learning", AsiaCCS 2017, section 4.2; Juuti, Szyller, Marchal and
    Asokan, "PRADA", EuroS&P 2019, section 4.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> victim = TorchModel(build("mlp-4", (3,), 2))
    >>> few = Dataset(torch.rand(8, 3), torch.zeros(8, dtype=torch.int64), ("a", "b"))
    >>> attack = Jacobian(architecture="mlp-8", epochs=2, seeds=4, rounds=2)
    >>> attack.run(victim, few).record.cost.queries
    16
    """

    name: ClassVar[str] = "jacobian"
    needs: ClassVar[Access] = Access.LABELS

    seeds: int = 150
    step: float = 0.1
    direction: Literal["away", "target", "label"] = "away"
    rounds: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges = {
            "seeds": self.seeds >= 1,
            "step": 0 < self.step < math.inf,
            "direction": self.direction in ("away", "target", "label"),
            "rounds": self.rounds >= 0,
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Jacobian.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)

    def limit(self, oracle: Ledger, pool: Dataset) -> int:
        """Return the most queries: children are made, so the pool is no limit."""
        bounds = [bound for bound in (self.queries, oracle.remaining) if bound is not None]
        return min(bounds, default=min(self.seeds, len(pool)) * 2**self.rounds)

    def propose(self, learned: Learned, count: int) -> Tensor:
        """Return the seeds, then children of inputs asked before."""
        pool = learned.pool
        if learned.network is None:
            order = torch.randperm(len(pool), generator=learned.generator)
            chosen = order[: min(self.seeds, count)]
            learned.taken[chosen] = True
            return pool.x[chosen]
        if learned.round > self.rounds:
            return pool.x[:0]
        parents = torch.randperm(len(learned.x), generator=learned.generator)[:count]
        x, labels = learned.x[parents], learned.labels[parents]
        # Drawn for every row asked so far, whatever the count: fewer queries must ask a prefix.
        others = torch.randint(1, pool.num_classes, (len(learned.x),), generator=learned.generator)
        if self.direction == "target":
            labels = (labels + others[parents]) % pool.num_classes
        sign = 1.0 if self.direction == "away" else -1.0
        moved = x + sign * self.step * _scale(pool) * _loss_gradient(learned.network, x, labels).sign()
        return moved.clamp(*pool.value_range)


def _scale(pool: Dataset) -> Tensor:
    low, high = pool.value_range
    if math.isfinite(low) and math.isfinite(high):
        return torch.tensor(high - low)
    return pool.x.amax(0) - pool.x.amin(0)


def _loss_gradient(network: Network, x: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of each row's cross-entropy by its input."""
    device = next(network.parameters()).device
    parts = []
    with torch.enable_grad():
        for start in range(0, len(x), _ROWS_AT_A_TIME):
            rows = x[start : start + _ROWS_AT_A_TIME].to(device).clone().requires_grad_()
            wanted = labels[start : start + _ROWS_AT_A_TIME].to(device)
            loss = functional.cross_entropy(network(rows), wanted, reduction="sum")
            parts.append(torch.autograd.grad(loss, rows)[0].cpu())
    return torch.cat(parts)
