"""Labelled points of a box, and how to pair them for line searches."""

from __future__ import annotations

import numpy as np

from assay.extraction.exact.bisection import Brackets
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.oracle import Oracle

__all__ = ["Labelled", "corners", "is_continuous"]

_BATCH = 8


def is_continuous(domain: Domain) -> bool:
    """Return whether every feature is a number, so that a line between two inputs is meant."""
    return bool(domain.continuous.all())


def corners(domain: Domain, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``rows`` corners of the box, float64 ``[rows, d]``; the ends of every linear score are there."""
    drawn: np.ndarray = np.where(rng.random((rows, domain.size)) < 0.5, domain.low, domain.high)  # noqa: PLR2004 - a fair coin
    return drawn


class Labelled:
    """Points with their labels, drawn as they are needed.

    Parameters
    ----------
    oracle
        Whom to ask.
    rng
        Of the draws and the pairing.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> from assay.ledger import Ledger
    >>> from assay.model import Access
    >>> model = CallableModel(lambda x: (x[:, 0] > 0).astype(int), (2,), 2)
    >>> seen = Labelled(Oracle(Ledger(model, Access.LABELS)), np.random.default_rng(0))
    >>> seen.draw(12)
    >>> pairs = seen.pairs(5, np.empty((0, 2), dtype=np.int64), 3)
    >>> len(pairs), bool((pairs.near_labels != pairs.far_labels).all())
    (5, True)
    """

    def __init__(self, oracle: Oracle, rng: np.random.Generator) -> None:
        self._oracle, self._rng = oracle, rng
        self.x = np.empty((0, oracle.size))
        self.labels = np.empty(0, dtype=np.int64)
        self._used = np.empty(0, dtype=bool)

    def draw(self, rows: int) -> None:
        """Ask about ``rows`` points: uniform ones, and a quarter corners."""
        if rows < 1:
            return
        ends = corners(self._oracle.domain, rows // 4, self._rng)
        self.ask(np.r_[self._oracle.domain.uniform(rows - len(ends), self._rng), ends])

    def ask(self, x: np.ndarray) -> np.ndarray:
        """Ask about given points, in one call, and return their labels."""
        answers = self._oracle.labels(x)
        self.x, self.labels = np.r_[self.x, x], np.r_[self.labels, answers]
        self._used = np.r_[self._used, np.zeros(len(x), dtype=bool)]
        return answers

    def found_two(self, most: int, reserve: int = 0) -> bool:
        """Return whether two labels were seen, after drawing at most ``most`` further points.

        ``reserve`` is what must be left of the budget afterwards.
        """
        batch = _BATCH
        while (self.labels == self.labels[0]).all():
            left = self._oracle.remaining
            batch = min(batch, most, most if left is None else left - reserve)
            if batch < 1:
                return False
            self.ask(
                np.r_[
                    corners(self._oracle.domain, batch - batch // 2, self._rng),
                    self._oracle.domain.uniform(batch // 2, self._rng),
                ]
            )
            most -= batch
            batch *= 2
        return True

    def pairs(self, count: int, facets: np.ndarray, features: int) -> Brackets:
        """Return ``count`` pairs of points with different labels.

        Parameters
        ----------
        count
            Pairs to return.
        facets
            Pairs of classes that boundary points are already known for, int64 ``[n, 2]``.
        features
            Unknowns of one boundary: it has nothing new to say after so many points.

        Notes
        -----
        Every pair has a point that no other pair has, as far as there are enough, so that
        no chain of pairs closes and the equations stay independent.
        """
        classes = self._oracle.num_classes
        full = np.zeros((classes, classes))
        if len(facets):
            np.add.at(full, (facets[:, 0], facets[:, 1]), 1)
        full += full.T
        present = np.bincount(self.labels, minlength=classes) > 0
        wanted = np.where(full < features, 1.0, 0.02) * present * (1 - np.eye(classes))
        order = self._rng.permutation(len(self.x))
        # Points that no pair has used come first, then those of classes with open boundaries.
        order = order[np.argsort(self._used[order], kind="stable")]
        order = np.resize(order, count)
        starts = self.labels[order]
        partners = np.empty(count, dtype=np.int64)
        members = [np.flatnonzero(self.labels == k) for k in range(classes)]
        for k in np.unique(starts):
            mine = np.flatnonzero(starts == k)
            others = self._rng.choice(classes, size=len(mine), p=wanted[k] / wanted[k].sum())
            for j in np.unique(others):
                those = mine[others == j]
                partners[those] = self._rng.choice(members[j], size=len(those))
        self._used[order] = True
        return Brackets(self.x[order], self.x[partners], starts, self.labels[partners])
