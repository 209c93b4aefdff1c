"""Labels only: boundary points by batched bisection, then one linear system for all classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from assay.errors import BudgetExceeded, InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.bisection import Brackets, bisect
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.hyperplanes import Hyperplanes, fit_hyperplanes
from assay.extraction.exact.labelled import Labelled, corners, is_continuous
from assay.extraction.exact.monomials import Monomials
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.recovered import Recovered
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["Boundary", "linear_error"]

_FEWEST_BITS = 4
_FEWEST_SPARE = 3
_MISFIT = 3.0
_SWEEPS = 4
_PAIR = 2
_GUIDES, _GUIDE_BITS = 4000, 3
_KEPT = 0.7  # features of a rare class that the corner behind it keeps
_SAME = 1e-6  # of the span of the scores: the truth is no polynomial of this degree beyond


@register("boundary", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class Boundary(ExactAttack):
    """Recover a linear or polynomial classifier from labels, by points on its boundaries.

    Random inputs of different labels are paired, all pairs are bisected together, and
    the boundary points that this finds determine the classifier of any number of classes
    up to scale in one singular value decomposition. A surplus of points makes the system
    well conditioned, and shows at no further query whether the victim is of the assumed
    class at all.

    Parameters
    ----------
    degrees
        Degrees of the polynomial to try in turn, until the points fit: ``(1,)`` is
        linear, ``(1, 2)`` goes on to quadratic kernels where linear does not fit.
    bits
        Halvings of each pair, 4 to 52; fewer where the budget demands it.
    surplus
        Points beyond the fewest that determine the classifier, as a share, 0 to 10.
    fan_out
        Halvings a round trip, 1 to 8; ``2**fan_out - 1`` queries of each pair.
    search
        Queries to spend at most, beyond the usual ones, until a second label is seen.

    References
    ----------
    Tramer et al., "Stealing Machine Learning Models via Prediction APIs", USENIX Security
    2016, section 6 (label-only extraction); Lowd and Meek, "Adversarial Learning", KDD 2005.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> plane = np.array([1.0, -2.0, 0.5])
    >>> victim = CallableModel(lambda x: (x @ plane > 0.3).astype(int), (3,), 2)
    >>> theft = Boundary(bits=40).run(victim, uniform=1000)
    >>> coef = theft.found.model.coef_[0]
    >>> (coef / coef[0]).round(8).tolist(), theft.worth.r_unif.value, theft.worth.flags
    ([1.0, -2.0, 0.5], 0.0, ())
    """

    name: ClassVar[str] = "boundary"
    needs: ClassVar[Access] = Access.LABELS

    degrees: tuple[int, ...] = (1,)
    bits: int = 30
    surplus: float = 0.2
    fan_out: int = 1
    search: int = 2000

    def __post_init__(self) -> None:
        if not self.degrees or min(self.degrees) < 1 or list(self.degrees) != sorted(set(self.degrees)):
            msg = f"degrees must be ascending whole numbers of at least 1, got {self.degrees}"
            raise InvalidInput(msg)
        if not _FEWEST_BITS <= self.bits <= 52 or not 0 <= self.surplus <= 10:  # noqa: PLR2004
            msg = f"bits must be 4 to 52 and surplus 0 to 10, got {self.bits} and {self.surplus}"
            raise InvalidInput(msg)
        if not 1 <= self.fan_out <= 8 or self.search < 0:  # noqa: PLR2004
            msg = f"fan_out must be 1 to 8 and search at least 0, got {self.fan_out} and {self.search}"
            raise InvalidInput(msg)

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the ledger tells them
    ) -> Recovered:
        """Recover the classifier behind the labels; see `ExactAttack.recover`."""
        if not is_continuous(oracle.domain):
            msg = "boundary needs continuous features to search along; try adaptive-retraining"
            raise InvalidInput(msg)
        classes, flags = oracle.num_classes, list[str]()
        phi = Monomials(self.degrees[0], oracle.domain)
        edges = self._edges(phi.count, classes)
        self._affordable(oracle, edges, edges + 1)
        seen = Labelled(oracle, rng)
        seen.draw(edges + 1)
        if not seen.found_two(self.search, reserve=edges * self._price(_FEWEST_BITS)):
            return self._constant(phi, seen, classes)
        if (bits := self._affordable(oracle, edges, 0)) < self.bits:
            flags.append("budget-limited")
        found = self._collect(oracle, seen, edges, bits, phi.count)
        fit = self._fit(found, phi, seen, classes)
        for degree in self.degrees[1:]:
            if fit.misfit <= _MISFIT:
                break
            richer = Monomials(degree, oracle.domain)
            more = self._edges(richer.count, classes) - len(found)
            if not oracle.covers(more * (1 + self._price(bits))):
                flags.append("budget-limited")
                break
            phi = richer
            seen.draw(more)
            found = found.joined(self._collect(oracle, seen, more, bits, phi.count, found))
            fit = self._fit(found, phi, seen, classes)
        found, fit = self._completed(oracle, seen, found, fit, phi, bits, rng)
        if fit.nullity > 1:
            flags.append("rank-deficient")
        elif fit.misfit > _MISFIT:  # of an open system the residuals say nothing
            flags.append("other-model-class")
        return self._recovered(phi, fit, seen, found, bits, classes, flags)

    def _edges(self, features: int, classes: int) -> int:
        unknowns = (classes - 1) * features - 1
        return unknowns + max(_FEWEST_SPARE, math.ceil(self.surplus * unknowns))

    def _price(self, bits: int) -> int:
        """Return the queries that bisecting one pair takes."""
        whole, rest = divmod(bits, self.fan_out)
        return int(whole * (2**self.fan_out - 1) + (2**rest - 1))

    def _affordable(self, oracle: Oracle, edges: int, points: int) -> int:
        for bits in range(self.bits, _FEWEST_BITS - 1, -1):
            if oracle.covers(points + edges * self._price(bits)):
                return bits
        fewest = points + edges * self._price(_FEWEST_BITS)
        msg = (
            f"boundary needs at least {fewest} queries for {oracle.name} ({edges} boundary points of "
            f"{_FEWEST_BITS} bits), but the budget leaves {oracle.remaining}"
        )
        raise BudgetExceeded(msg)

    def _collect(
        self,
        oracle: Oracle,
        seen: Labelled,
        edges: int,
        bits: int,
        features: int,
        known: Brackets | None = None,
    ) -> Brackets:
        """Bisect ``edges`` new pairs; with many classes in parts, so that full facets are left alone."""
        found = known
        parts = [edges] if oracle.num_classes == _PAIR else [edges - edges // 2, edges // 2]
        fresh: Brackets | None = None
        for part in parts:
            facets = np.empty((0, 2), dtype=np.int64) if found is None else found.facets
            pairs = seen.pairs(part, facets, features)
            ends = bisect(oracle.labels, pairs, bits, fan_out=self.fan_out)
            fresh = ends if fresh is None else fresh.joined(ends)
            found = ends if found is None else found.joined(ends)
        assert fresh is not None
        return fresh

    def _completed(
        self,
        oracle: Oracle,
        seen: Labelled,
        found: Brackets,
        fit: Hyperplanes,
        phi: Monomials,
        bits: int,
        rng: np.random.Generator,
    ) -> tuple[Brackets, Hyperplanes]:
        """Look for further boundary points while equations leave something open, or classes are unseen."""
        unseen = len(np.unique(np.r_[seen.labels, found.far_labels])) < oracle.num_classes
        for sweep in range(_SWEEPS + 1):
            if fit.nullity == 1 and (sweep or not unseen):
                break
            fresh = (
                self._guided(oracle, found, fit, phi, bits, rng)
                if sweep
                else self._neglected(oracle, seen, found, phi.count, bits, rng)
            )
            if fresh is not None:
                found = found.joined(fresh)
                fit = self._fit(found, phi, seen, oracle.num_classes)
            elif sweep:
                break
        return found, fit

    def _neglected(
        self,
        oracle: Oracle,
        seen: Labelled,
        found: Brackets,
        features: int,
        bits: int,
        rng: np.random.Generator,
    ) -> Brackets | None:
        """Search from points of rare classes outwards; None if every class has points enough."""
        near, far = list[np.ndarray](), list[np.ndarray]()
        counts = np.bincount(found.facets.ravel(), minlength=oracle.num_classes)
        if len(np.unique(seen.labels)) < oracle.num_classes:
            self._look_for_rare(oracle, seen, found, features * self._price(bits), rng)
        for k in np.unique(seen.labels):
            mine, others = np.flatnonzero(seen.labels == k), np.flatnonzero(seen.labels != k)
            missing = max(0, features - int(counts[k]))
            # A line ends at the first boundary seen from its near end, which is one of class k.
            near.append(rng.choice(mine, size=missing))
            far.append(rng.choice(others, size=missing, replace=missing > len(others)))
        a, b = np.concatenate(near), np.concatenate(far)
        if oracle.remaining is not None:
            most = oracle.remaining // self._price(bits)
            a, b = a[:most], b[:most]
        if not len(a):
            return None
        ends = Brackets(seen.x[a], seen.x[b], seen.labels[a], seen.labels[b])
        return bisect(oracle.labels, ends, bits, fan_out=self.fan_out)

    def _look_for_rare(
        self, oracle: Oracle, seen: Labelled, found: Brackets, reserve: int, rng: np.random.Generator
    ) -> None:
        """Ask corners of the box for classes of which no inner point is known."""
        rows = (
            self.search // 8
            if oracle.remaining is None
            else min(self.search // 8, oracle.remaining - reserve)
        )
        if rows < 1:
            return
        common = np.unique(seen.labels)
        met = found.far[~np.isin(found.far_labels, common)]
        domain = oracle.domain
        drawn = corners(domain, rows, rng)
        if len(met):
            # Where such a class was met, the corner behind is more likely to be of it.
            some = met[rng.integers(len(met), size=rows)]
            keep = rng.random((rows, domain.size)) < _KEPT * (np.arange(rows) % 2)[:, None]
            drawn = np.where(keep, np.where(some > domain.centre, domain.high, domain.low), drawn)
        seen.ask(drawn)

    def _guided(
        self,
        oracle: Oracle,
        found: Brackets,
        fit: Hyperplanes,
        phi: Monomials,
        bits: int,
        rng: np.random.Generator,
    ) -> Brackets | None:
        """Look where the fit expects boundaries that too few points are known of; None if nowhere."""

        def expected(x: np.ndarray) -> np.ndarray:
            return fit.labels(phi(x))

        x = oracle.domain.uniform(2 * _GUIDES, rng)
        labels = expected(x)
        apart = np.flatnonzero(labels[:_GUIDES] != labels[_GUIDES:])
        ends = Brackets(x[apart], x[_GUIDES + apart], labels[apart], labels[_GUIDES + apart])
        ends = bisect(expected, ends, _GUIDE_BITS)
        known, counts = np.unique(found.facets, axis=0, return_counts=True)
        full = {(int(i), int(j)) for (i, j), n in zip(known, counts, strict=True) if n >= phi.count}
        chosen = np.array([k for k, (i, j) in enumerate(ends.facets) if (i, j) not in full], dtype=np.int64)
        most = phi.count if oracle.remaining is None else oracle.remaining // (2 + self._price(bits))
        chosen = chosen[: min(phi.count, most)]
        if not len(chosen):
            return None
        answers = oracle.labels(np.r_[ends.near[chosen], ends.far[chosen]]).reshape(2, -1)
        differ = answers[0] != answers[1]
        ends = Brackets(
            ends.near[chosen][differ], ends.far[chosen][differ], answers[0][differ], answers[1][differ]
        )
        return bisect(oracle.labels, ends, max(1, bits - _GUIDE_BITS), fan_out=self.fan_out)

    def _fit(self, found: Brackets, phi: Monomials, seen: Labelled, classes: int) -> Hyperplanes:
        """Solve among the classes that were met; the others are out of reach."""
        met = np.unique(np.r_[seen.labels, found.facets.ravel()])
        local = np.full(classes, -1)
        local[met] = np.arange(len(met))
        moved = Brackets(found.near, found.far, local[found.near_labels], local[found.far_labels])
        fit = fit_hyperplanes(moved, len(met), phi, seen.x, local[seen.labels])
        if len(met) == classes:
            return fit
        theta, deviation = np.zeros((classes, phi.count)), np.zeros((classes, phi.count))
        # Below every score in the box: |phi| <= 1 there.
        theta[:, -1] = -2 * np.abs(fit.theta).sum(axis=1).max()
        theta[met], deviation[met] = fit.theta, fit.deviation
        return Hyperplanes(theta, deviation, fit.nullity, fit.misfit)

    def _constant(self, phi: Monomials, seen: Labelled, classes: int) -> Recovered:
        theta = np.zeros((classes, phi.count))
        theta[seen.labels[0], -1] = 1.0
        return Recovered(
            phi.estimator(theta),
            self._family(phi, classes),
            classes - 1,
            1,
            flags=("no-boundary-found",),
            details={"searched": len(seen.x), "label": int(seen.labels[0])},
        )

    def _family(self, phi: Monomials, classes: int) -> str:
        kind = "linear" if phi.degree == 1 else f"polynomial of degree {phi.degree}"
        return f"{kind} classifier of {classes} classes"

    def _recovered(
        self,
        phi: Monomials,
        fit: Hyperplanes,
        seen: Labelled,
        found: Brackets,
        bits: int,
        classes: int,
        flags: list[str],
    ) -> Recovered:
        met = np.unique(np.r_[seen.labels, found.facets.ravel()])
        if len(met) < classes:
            flags.append("unseen-classes")
        unknowns = (classes - 1) * phi.count
        # A bit for each bit of each unknown but the scale; an answer tells log2(classes) at most.
        bound = math.ceil((unknowns - 1) * bits / math.log2(classes))
        return Recovered(
            phi.estimator(fit.theta),
            self._family(phi, classes),
            unknowns,
            bound,
            parameters={
                "theta": fit.theta,
                "deviation": fit.deviation,
                "middle": phi.middle,
                "half": phi.half,
            },
            flags=tuple(flags),
            details={
                "bits": bits,
                "boundary_points": len(found),
                "nullity": fit.nullity,
                "misfit": round(fit.misfit, 4),
                "largest_deviation": float(fit.deviation.max()),
                "classes_seen": [int(k) for k in met],
            },
        )

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Return the largest coefficient error; see `linear_error`."""
        width = found.parameters["theta"].shape[1] if "theta" in found.parameters else 0
        fitting = [
            p for p in self.degrees if math.comb(len(found.parameters.get("half", ())) + p, p) == width
        ]
        return linear_error(found, truth, fitting[0]) if fitting else None


def linear_error(found: Recovered, truth: object, degree: int) -> float | None:
    """Return the largest coefficient error, both sides brought to class 0 = 0 and norm 1.

    Parameters
    ----------
    found
        With the parameters ``theta``, ``middle`` and ``half``.
    truth
        A scikit-learn classifier with a ``decision_function``.
    degree
        Of the monomials in which ``theta`` is.

    Returns
    -------
    float or None
        None if the truth is no polynomial of that degree in the box.
    """
    decide: Any = getattr(truth, "decision_function", None)
    if decide is None or "theta" not in found.parameters:
        return None
    theta, middle, half = (found.parameters[name] for name in ("theta", "middle", "half"))
    domain = Domain(middle - half, middle + half)
    x = domain.uniform(2 * theta.shape[1] + 10, np.random.default_rng(0))
    features, answers = Monomials(degree, domain)(x), np.asarray(decide(x))
    answers = np.c_[np.zeros(len(x)), answers] if answers.ndim == 1 else answers
    true = np.linalg.lstsq(features, answers, rcond=None)[0]
    if true.shape[1] != len(theta) or np.abs(features @ true - answers).max() > _SAME * np.ptp(answers):
        return None
    true = true.T - true.T[:1]
    return float(np.abs(true / np.linalg.norm(true) - theta / np.linalg.norm(theta)).max())
