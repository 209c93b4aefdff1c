"""Labels only: fit a classifier to labelled points, chosen at random, along lines or by the fit itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import BudgetExceeded, InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.bisection import Brackets, bisect
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.label_learners import Learner, make_learner
from assay.extraction.exact.labelled import Labelled, corners, is_continuous
from assay.extraction.exact.monomials import Monomials
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.recovered import Recovered
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["AdaptiveRetraining"]

_NEAR = 0.75  # share of a round that goes to the boundary of the fit
_DOUBTED = 0.85  # the same for kernel machines, whose choice looks around by itself
_POOL, _CANDIDATES = 10_000, 2000
_POOL_BITS = 8
_PAIR = 2


@register("adaptive-retraining", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class AdaptiveRetraining(ExactAttack):
    """Train a classifier on labelled points, most of them near its own boundary.

    For victims whose class no other attack here recovers exactly from labels: kernel
    machines and networks; and for inputs with categories. Linear victims are recovered
    better and for less by `assay.extraction.exact.boundary.Boundary`.

    Parameters
    ----------
    strategy
        ``"uniform"``: random points. ``"line-search"``: bisection between random points of
        different labels, every step a sample. ``"adaptive"``: rounds of three quarters of
        points near the boundary of the latest fit and a quarter of random ones; for kernel
        machines of the points that they know least about.
    learner
        ``"linear"`` (logistic or softmax regression), ``"svm-rbf"`` (two classes) or
        ``"mlp"`` (one hidden layer of hyperbolic tangents).
    factor
        Queries for each unknown of the learner, above 0; fewer where the budget demands it.
    rounds
        Round trips of the adaptive strategy, 2 to 1000.
    width
        Length at which line searches stop, in a box scaled to ``[-1, 1]^d``, above 0. Kernel
        machines multiply it by the root of ``d``.
    hidden
        Hidden units of ``"mlp"``.
    gamma
        Kernel width of ``"svm-rbf"`` in that box; the likeliest one if None.

    References
    ----------
    Tramer et al., "Stealing Machine Learning Models via Prediction APIs", USENIX Security
    2016, section 6.2; Cohn, Atlas and Ladner, "Improving generalization with active
    learning", Machine Learning 1994.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> victim = CallableModel(lambda x: (x @ [1.0, -2.0, 0.5] > 0.3).astype(int), (3,), 2)
    >>> theft = AdaptiveRetraining(factor=50).run(victim, uniform=1000)
    >>> theft.record.cost.queries, theft.record.cost.round_trips, theft.worth.r_unif.value < 0.02
    (200, 5, True)
    """

    name: ClassVar[str] = "adaptive-retraining"
    needs: ClassVar[Access] = Access.LABELS

    strategy: Literal["adaptive", "line-search", "uniform"] = "adaptive"
    learner: Literal["linear", "svm-rbf", "mlp"] = "linear"
    factor: float = 20.0
    rounds: int = 5
    width: float = 0.1
    hidden: int = 20
    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.strategy not in ("adaptive", "line-search", "uniform"):
            msg = f"strategy must be adaptive, line-search or uniform, got {self.strategy!r}"
            raise InvalidInput(msg)
        if self.learner not in ("linear", "svm-rbf", "mlp"):
            msg = f"learner must be linear, svm-rbf or mlp, got {self.learner!r}"
            raise InvalidInput(msg)
        positive = {"factor": self.factor, "width": self.width, "hidden": self.hidden}
        positive |= {} if self.gamma is None else {"gamma": self.gamma}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                msg = f"{name} must be above 0, got {value}"
                raise InvalidInput(msg)
        if not 2 <= self.rounds <= 1000:  # noqa: PLR2004
            msg = f"rounds must be 2 to 1000, got {self.rounds}"
            raise InvalidInput(msg)

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the ledger tells them
    ) -> Recovered:
        """Fit a copy to the labels; see `ExactAttack.recover`."""
        classes = oracle.num_classes
        if self.learner == "svm-rbf" and classes != _PAIR:
            msg = f"the learner svm-rbf is for 2 classes, {oracle.name} has {classes}; try learner=mlp"
            raise InvalidInput(msg)
        if self.strategy == "line-search" and not is_continuous(oracle.domain):
            msg = "line-search needs continuous features; try strategy=adaptive"
            raise InvalidInput(msg)
        seed = int(rng.integers(2**31))
        learner = make_learner(self.learner, classes, seed, hidden=self.hidden, gamma=self.gamma)
        unknowns = learner.unknowns(oracle.size)
        wanted = max(self.rounds, math.ceil(self.factor * unknowns))
        queries = wanted if oracle.remaining is None else min(wanted, oracle.remaining)
        if queries < self.rounds:
            msg = f"adaptive-retraining needs at least {self.rounds} queries, the budget leaves {queries}"
            raise BudgetExceeded(msg)
        seen, unit = Labelled(oracle, rng), Monomials(1, oracle.domain)
        # Distances of kernel machines are counted per feature, as their kernels do.
        width = self.width * (math.sqrt(oracle.size) if self.learner == "svm-rbf" else 1.0)
        if self.strategy == "uniform":
            seen.ask(oracle.domain.uniform(queries, rng))
        elif self.strategy == "line-search":
            _search_lines(seen, oracle, queries, width, rng)
        else:
            self._adapt(seen, oracle, learner, queries, width, rng)
        learner.fit(unit.unit(seen.x), seen.labels)
        missing = classes - len(np.unique(seen.labels))
        flags = ["budget-limited"] if queries < wanted else []
        flags += ["one-label-seen"] if learner.constant else ["unseen-classes"] if missing else []
        agreed = float((learner.labels(unit.unit(seen.x)) == seen.labels).mean())
        return Recovered(
            learner.model(oracle.domain),
            f"{self.learner} classifier of {classes} classes, retrained",
            unknowns,
            math.ceil(unknowns / math.log2(classes)),  # a label tells no more; it is no precision
            flags=tuple(flags),
            details={"agreement_on_queries": agreed},
        )

    def _adapt(
        self,
        seen: Labelled,
        oracle: Oracle,
        learner: Learner,
        queries: int,
        width: float,
        rng: np.random.Generator,
    ) -> None:
        domain, unit = oracle.domain, Monomials(1, oracle.domain)
        shares = [len(part) for part in np.array_split(np.arange(queries), self.rounds)]
        count = shares.pop(0)
        ends = corners(domain, min(oracle.size + 3, count // 2), rng)
        seen.ask(np.r_[ends, domain.uniform(count - len(ends), rng)])
        for count in shares:
            near = np.empty((0, oracle.size))
            learner.fit(unit.unit(seen.x), seen.labels)
            if learner.constant:
                # A class that uniform points miss has its best points in corners.
                near = corners(domain, count // 2, rng)
            elif self.learner == "svm-rbf":
                near = _doubted(learner, unit, domain, math.ceil(_DOUBTED * count), seen.x, rng)
            else:
                near = _near_boundary(learner, unit, domain, round(_NEAR * count), width, seen.x, rng)
            seen.ask(np.r_[near, domain.uniform(count - len(near), rng)])


def _search_lines(
    seen: Labelled, oracle: Oracle, queries: int, width: float, rng: np.random.Generator
) -> None:
    """Spend exactly ``queries`` on random points and bisections between them."""
    end = oracle.queries + queries
    # Two random points of the unit box are about this far apart.
    bits = max(1, math.ceil(math.log2(math.sqrt(2 * oracle.size / 3) / width)))
    seen.ask(oracle.domain.uniform(max(2, queries // (1 + bits)), rng))
    reserve = 0 if oracle.remaining is None else oracle.remaining - (end - oracle.queries)
    if seen.found_two(end - oracle.queries, reserve=reserve):
        pairs = (end - oracle.queries) // bits
        if pairs:
            facets = np.empty((0, 2), dtype=np.int64)
            bisect(seen.ask, seen.pairs(pairs, facets, oracle.size + 1), bits)
    left = end - oracle.queries
    if left:
        seen.ask(oracle.domain.uniform(left, rng))


def _doubted(
    learner: Learner, unit: Monomials, domain: Domain, count: int, known: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return ``count`` points that the learner knows least about: of its boundary, random, or corners."""
    rows = max(_CANDIDATES, 2 * count)
    pool = np.r_[domain.uniform(rows, rng), corners(domain, min(rows // 3, 2**domain.size), rng)]
    ends = _opposites(pool, learner.labels(unit.unit(pool)), rows // 3, rng)
    if ends is not None and is_continuous(domain):
        # In many features hardly a random point is near the boundary; points of it cost nothing.
        pool = np.r_[pool, bisect(lambda x: learner.labels(unit.unit(x)), ends, _POOL_BITS).near]
    chosen: np.ndarray = pool[learner.doubtful(unit.unit(pool), unit.unit(known), count)]
    return chosen


def _near_boundary(
    learner: Learner,
    unit: Monomials,
    domain: Domain,
    count: int,
    width: float,
    known: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return ``count`` points near changes of the learner's label; asks the victim nothing."""
    if is_continuous(domain):
        rows = max(500, count)
        pool = np.r_[domain.uniform(rows, rng), corners(domain, min(rows, 8 * domain.size), rng), known]
        labels = learner.labels(unit.unit(pool))
        ends = _opposites(pool, labels, (count + 1) // 2, rng)
        if ends is not None:
            longest = float(np.linalg.norm(unit.unit(ends.far) - unit.unit(ends.near), axis=1).max())
            bits = max(1, math.ceil(math.log2(max(longest / width, 1.0))))
            ends = bisect(lambda x: learner.labels(unit.unit(x)), ends, bits)
            both: np.ndarray = np.r_[ends.near, ends.far][:count]
            return both
    pool = domain.uniform(max(_POOL, count), rng)
    chosen: np.ndarray = pool[np.argsort(learner.margins(unit.unit(pool)), kind="stable")[:count]]
    return chosen


def _opposites(pool: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator) -> Brackets | None:
    """Pair random points of different labels, or return None if all are the same."""
    if (labels == labels[0]).all():
        return None
    sizes = np.bincount(labels)
    # Rare classes start as many lines as common ones.
    weight = 1.0 / sizes[labels]
    near = rng.choice(len(pool), size=count, p=weight / weight.sum())
    far = np.empty_like(near)
    for k in np.unique(labels[near]):
        mine, others = np.flatnonzero(labels[near] == k), np.flatnonzero(labels != k)
        far[mine] = rng.choice(others, size=len(mine))
    return Brackets(pool[near], pool[far], labels[near], labels[far])
