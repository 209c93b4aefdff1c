"""When marked batches are due, and whose turn it is in them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from assay.errors import InvalidInput

__all__ = ["Schedule", "Turns"]


@dataclass(frozen=True)
class Schedule:
    """Marked batches among ordinary ones.

    Parameters
    ----------
    ratio
        Ordinary batches for each marked one, > 0; a fraction such as 1.2 is kept exactly.
    warm_up
        Ordinary batches before the first counts, at least 0: places and shapes of marks
        follow a network that knows the task.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Jia et al., USENIX Security 2021, algorithm 1.

    Examples
    --------
    >>> plan = Schedule(1.2)
    >>> plan.due(12), plan.due(11), Schedule(0.5).due(5), Schedule(4, warm_up=8).due(48)
    (10, 9, 10, 10)
    """

    ratio: float
    warm_up: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.ratio < math.inf or self.warm_up < 0:
            msg = f"a schedule needs ratio > 0 and warm_up >= 0, got {self.ratio} and {self.warm_up}"
            raise InvalidInput(msg)

    def due(self, done: int) -> int:
        """Return how many marked batches are due after ``done`` ordinary ones."""
        # In binary, 12 / 1.2 may end below 10, and a batch would be lost.
        return math.floor(max(0, done - self.warm_up) / Fraction(str(float(self.ratio))))


class Turns:
    """Rows that take turns: each is used as often as any other, give or take one.

    Parameters
    ----------
    rows
        Positions, int64 ``[n]``, at least one.

    Raises
    ------
    InvalidInput
        If there are none.

    Examples
    --------
    >>> turns = Turns(torch.arange(4))
    >>> generator = torch.Generator().manual_seed(0)
    >>> torch.cat([turns.take(3, generator) for _ in range(4)]).bincount().tolist()
    [3, 3, 3, 3]
    """

    def __init__(self, rows: Tensor) -> None:
        if not len(rows):
            msg = "there are no rows to take turns"
            raise InvalidInput(msg)
        self._rows = rows
        self._waiting = rows[:0]

    def take(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the next ``count`` rows; every round is in a new order."""
        while len(self._waiting) < count:
            order = torch.randperm(len(self._rows), generator=generator)
            self._waiting = torch.cat([self._waiting, self._rows[order]])
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken
