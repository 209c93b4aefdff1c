"""The published adaptive attack on kernel machines, written anew, for victims that are at hand.

Tramer et al. 2016, section 6, and the public code of its authors
(https://github.com/ftramer/Steal-ML, binary-classifiers). Two fifths of a budget go into bisection
between random points of different labels, one fifth each into three rounds of end points of bisections
on the copy, which are then asked. The public code carries points over from one budget to the
next: what it gives at a nominal budget of 10 queries an unknown has seen 16.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.svm import SVC

__all__ = ["NOMINAL", "published_curve"]

NOMINAL = (1, 2, 5, 8, 10, 20, 50, 80, 100)
_ROUNDS, _WIDTH, _C = 5, 0.1, 1e5
_MOST_DRAWN = 50_000  # random points in search of a pair, on the copy, where they are free

Answer = Callable[[np.ndarray], np.ndarray]
Found = tuple[int, int, SVC | None]


class _SpentError(Exception):
    """The budget is spent."""


class _Attack:
    """Points with labels, and how often the victim was asked."""

    def __init__(self, answer: Answer, size: int, rng: np.random.Generator) -> None:
        self.answer, self.size, self.rng = answer, size, rng
        self.x: list[np.ndarray] = []
        self.y: list[int] = []
        self.asked = 0

    def run(self, factor: int) -> Found:
        """Return the nominal budget, questions asked in all, and the copy; None after one label."""
        share = factor * (self.size + 1) // _ROUNDS
        self._pairs(2 * share)
        if len(set(self.y)) == 1 or not self.y:
            return factor, self.asked, None
        for _ in range(_ROUNDS - 2):
            ends = self._ends_on(self._copy().predict, share + share % 2)
            self.asked += len(ends)
            self.x += list(ends)
            self.y += [int(label) for label in self.answer(ends)]
        return factor, self.asked, self._copy()

    def _copy(self) -> SVC:
        return SVC(C=_C, gamma="auto").fit(np.array(self.x), self.y)

    def _pairs(self, budget: int) -> None:
        """Bisect between random points of two labels until the budget is spent; keep the ends."""
        waiting: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])

        def label(point: np.ndarray) -> int:
            if self.asked >= budget:
                raise _SpentError
            self.asked += 1
            return int(self.answer(point[None])[0])

        try:
            while True:
                point = self.rng.uniform(-1, 1, self.size)
                waiting[label(point)].append(point)
                while waiting[0] and waiting[1]:
                    ends = [waiting[0].pop(0), waiting[1].pop(0)]
                    while _distance(*ends) >= _WIDTH:
                        middle = (ends[0] + ends[1]) / 2
                        ends[label(middle)] = middle
                    self.x += ends
                    self.y += [0, 1]
        except _SpentError:
            return

    def _ends_on(self, predict: Answer, count: int) -> np.ndarray:
        """Return ends of bisections on the copy; random points as far as it has one label."""
        drawn = self.rng.uniform(-1, 1, (max(1000, 4 * count), self.size))
        labels = predict(drawn)
        while len(drawn) < _MOST_DRAWN and np.bincount(labels, minlength=2).min() < count // 2:
            drawn = np.r_[drawn, self.rng.uniform(-1, 1, drawn.shape)]
            labels = predict(drawn)
        pairs = min(count // 2, *(int((labels == k).sum()) for k in (0, 1)))
        low, high = (drawn[labels == k][:pairs] for k in (0, 1))
        while pairs and (wide := _distance(low, high) >= _WIDTH).any():
            middle = (low[wide] + high[wide]) / 2
            below = (predict(middle) == 0)[:, None]
            low[wide] = np.where(below, middle, low[wide])
            high[wide] = np.where(below, high[wide], middle)
        return np.r_[low, high, self.rng.uniform(-1, 1, (count - 2 * pairs, self.size))]


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return distances for each root of the number of features, as the published search counts them."""
    return np.linalg.norm(a - b, axis=-1) / np.sqrt(a.shape[-1])


def published_curve(
    answer: Answer, size: int, factors: tuple[int, ...], rng: np.random.Generator, *, carry: bool
) -> list[Found]:
    """Return what the attack gives at each budget factor; with ``carry`` as the public code runs it."""
    if not carry:
        return [_Attack(answer, size, rng).run(factor) for factor in factors]
    attack = _Attack(answer, size, rng)
    return [attack.run(factor) for factor in NOMINAL if factor <= max(factors)]
