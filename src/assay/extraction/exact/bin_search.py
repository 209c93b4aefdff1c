"""Bin search: models behind one-hot encoding and binning that the service keeps to itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from assay.errors import InvalidInput
from assay.extraction.exact.additive import AdditiveLogistic
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.recovered import Recovered
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["BinSearch"]

_STRAIGHT = 1e-8  # of the range of a feature's log-ratios: collinear probes
_TOLERANCE = 1e-7


@dataclass(eq=False)
class _Curve:
    """What is known of one feature: grid positions asked and the log-ratios there."""

    feature: int
    origin: float
    at: np.ndarray  # int64 [p], ascending multiples of epsilon above the origin
    ratios: np.ndarray  # float64 [p, c - 1], relative to the baseline

    def changes(self) -> np.ndarray:
        """Return the gaps whose ends differ, as positions of their left ends."""
        return np.flatnonzero((self.ratios[1:] != self.ratios[:-1]).any(axis=1))

    def open(self) -> np.ndarray:
        """Return the middles of gaps that differ and are wider than one step."""
        left = self.changes()
        wide = left[self.at[left + 1] - self.at[left] > 1]
        return np.asarray((self.at[wide] + self.at[wide + 1]) // 2)

    def add(self, at: np.ndarray, ratios: np.ndarray) -> None:
        """Sort new answers in."""
        at, ratios = np.concatenate([self.at, at]), np.vstack([self.ratios, ratios])
        order = np.argsort(at, kind="stable")
        self.at, self.ratios = at[order], ratios[order]


@register("bin-search", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class BinSearch(ExactAttack):
    """Recover a logistic model of hidden bins and dummies, raw feature by raw feature.

    All features but one stay missing (or, where a service insists on complete inputs, at
    the centre of the domain). Log-ratios then change with that one feature only: where
    they jump is the edge of a bin, by how much is its weight. Edges of all features are
    bisected in the same round trips. A feature whose log-ratios rise in a straight line
    is not binned, and gets a slope.

    ``parameters`` of the result: ``intercept`` ``[c]``; ``edges.I`` and ``weights.I`` of each
    feature; ``slopes`` ``[d, c]``.

    Parameters
    ----------
    epsilon
        Step of the grid on which edges are found, above 0.
    probes
        Values of each number asked first, at least 2. A bin between two probes whose
        neighbours have equal weights is missed.
    most
        Edges of one feature at which the search gives up on it, at least 1.
    checks
        Random rows on which the result is checked, of which one may be wrong.

    References
    ----------
    Tramèr et al. 2016, section 6.1: services with unknown feature extraction.

    Examples
    --------
    >>> from assay.defences import HiddenFeatures
    >>> from assay.adapters.sklearn_model import SklearnModel
    >>> from assay.extraction.exact.linear_models import as_softmax
    >>> weights = np.array([[0, 0, 0, 0, 0], [0.5, -1.0, 2.0, 0.0, 1.0]])
    >>> hidden = HiddenFeatures(edges=((-0.25, 0.5), ()), categories=(0, 2))
    >>> service = hidden.wear(SklearnModel(as_softmax(weights, np.zeros(2))))
    >>> from assay.extraction.exact.domain import Domain
    >>> domain = Domain(np.array([-1.0, 0.0]), np.array([1.0, 1.0]), (0, 2))
    >>> theft = BinSearch().run(service, domain=domain, uniform=1000)
    >>> [round(float(e), 2) for e in theft.found.parameters["edges.0"]], theft.worth.r_unif.value < 0.01
    ([-0.25, 0.5], True)
    """

    name: ClassVar[str] = "bin-search"
    needs: ClassVar[Access] = Access.SCORES

    epsilon: float = 1e-6
    probes: int = 10
    most: int = 200
    checks: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < np.inf or self.probes < 2 or self.most < 1 or self.checks < 0:  # noqa: PLR2004
            msg = "epsilon must be above 0, probes at least 2, most at least 1, checks at least 0"
            raise InvalidInput(msg)

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - seconds of work
    ) -> Recovered:
        """Ask single features, bisect where answers change, add up."""
        domain, d = oracle.domain, oracle.size
        base = np.full(d, np.nan) if oracle.accepts_missing else domain.centre
        numbers = np.flatnonzero(domain.continuous)
        places = [self._first(domain.low[i], domain.high[i]) for i in numbers]
        values = [domain.low[i] + at * self.epsilon for i, at in zip(numbers, places, strict=True)]
        codes = [np.arange(float(k)) for k in domain.categories if k]
        features = [*numbers, *np.flatnonzero(~domain.continuous)]
        rows = np.vstack(
            [base, *(_rows(base, i, v) for i, v in zip(features, [*values, *codes], strict=True))]
        )
        if not oracle.covers(len(rows)):
            msg = (
                f"bin-search of {oracle.name} needs at least {len(rows)} queries, one for the bias and one "
                f"for each category and probe, but the budget covers {oracle.remaining}"
            )
            raise InvalidInput(msg)
        ratios = oracle.log_ratios(rows)
        if not np.isfinite(ratios).all():
            msg = f"the scores of {oracle.name} are 0 for some single features; bin-search needs all of them"
            raise InvalidInput(msg)
        bias, parts = ratios[0], np.split(ratios[1:] - ratios[0], _ends([*values, *codes]))
        curves = [
            _Curve(int(i), float(domain.low[i]), at, part)
            for i, at, part in zip(numbers, places, parts[: len(numbers)], strict=True)
        ]
        straight = [_straight(curve) for curve in curves]
        given_up = self._bisect(
            oracle, base, bias, [c for c, s in zip(curves, straight, strict=True) if not s]
        )
        flags = ("not-binned",) if given_up else ()
        return self._result(oracle, base, bias, curves, straight, parts[len(numbers) :], flags, rng)

    def _first(self, low: float, high: float) -> np.ndarray:
        steps = max(int(np.ceil((high - low) / self.epsilon)), 1)
        return np.unique(np.rint(np.linspace(0, steps, self.probes)).astype(np.int64))

    def _bisect(self, oracle: Oracle, base: np.ndarray, bias: np.ndarray, curves: list[_Curve]) -> bool:
        given_up = False
        while True:
            asked = []
            for curve in curves:
                middles = curve.open()
                if len(curve.changes()) > self.most:
                    given_up, middles = True, middles[:0]
                asked.append(middles)
            if not any(len(m) for m in asked):
                return given_up
            rows = [
                _rows(base, c.feature, c.origin + m * self.epsilon)
                for c, m in zip(curves, asked, strict=True)
            ]
            found = oracle.log_ratios(np.vstack(rows)) - bias
            for curve, at, part in zip(curves, asked, np.split(found, _ends(asked)), strict=True):
                curve.add(at, part)

    def _result(
        self,
        oracle: Oracle,
        base: np.ndarray,
        bias: np.ndarray,
        curves: list[_Curve],
        straight: list[bool],
        categories: list[np.ndarray],
        flags: tuple[str, ...],
        rng: np.random.Generator,
    ) -> Recovered:
        d, c = oracle.size, oracle.num_classes
        edges: list[np.ndarray] = [np.empty(0)] * d
        weights: list[np.ndarray] = [np.zeros((1, c))] * d
        slopes = np.zeros((d, c))
        for curve, is_straight in zip(curves, straight, strict=True):
            i, terms = curve.feature, np.column_stack([np.zeros(len(curve.at)), curve.ratios])
            if is_straight:
                value = curve.origin + curve.at * self.epsilon
                slopes[i] = (terms[-1] - terms[0]) / (value[-1] - value[0])
                weights[i] = (terms[0] - slopes[i] * value[0])[None]
                continue
            left = curve.changes()
            # The edge lies in [left, right); a data value that is an edge belongs to its left.
            right = curve.origin + curve.at[left + 1] * self.epsilon
            edges[i], weights[i] = np.nextafter(right, -np.inf), terms[np.append(left, len(terms) - 1)]
        for j, terms in zip(np.flatnonzero(~oracle.domain.continuous), categories, strict=True):
            edges[j] = np.arange(len(terms) - 1) + 0.5
            weights[j] = np.column_stack([np.zeros(len(terms)), terms])
        intercept = np.append(0.0, bias)
        model = AdditiveLogistic(intercept, edges, weights, slopes)
        gap = self._check(oracle, model, rng)
        if gap > _TOLERANCE:
            flags = (*flags, "model-mismatch")
        dummies = sum(len(w) for w in weights)
        found: dict[str, Any] = {"intercept": intercept, "slopes": slopes}
        found |= {f"edges.{i}": e for i, e in enumerate(edges)}
        found |= {f"weights.{i}": w for i, w in enumerate(weights)}
        thresholds = sum(len(edges[curve.feature]) for curve in curves)
        return Recovered(
            model,
            "logistic regression on hidden bins",
            unknowns=(1 + dummies) * (c - 1) + thresholds,
            bound=1 + dummies,
            parameters=found,
            flags=flags,
            details={
                "thresholds": thresholds,
                "straight": int(sum(straight)),
                "missing": bool(np.isnan(base).any()),
                "check": gap,
            },
        )

    def _check(self, oracle: Oracle, model: AdditiveLogistic, rng: np.random.Generator) -> float:
        rows = self.checks if oracle.remaining is None else min(self.checks, oracle.remaining)
        if not rows:
            return 0.0
        x = oracle.domain.uniform(rows, rng)
        gaps = np.sort(np.abs(oracle.scores(x) - model.predict_proba(x)).max(axis=1))
        # One row may lie within a step of an edge.
        return float(gaps[-2] if rows > 1 else gaps[-1])


def _rows(base: np.ndarray, feature: int, values: np.ndarray) -> np.ndarray:
    rows = np.tile(base, (len(values), 1))
    rows[:, feature] = values
    return rows


def _ends(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.cumsum([len(part) for part in parts])[:-1]


def _straight(curve: _Curve) -> bool:
    """Return whether the probes lie on one line that is not flat."""
    x = curve.at - curve.at[0]
    rise = curve.ratios[-1] - curve.ratios[0]
    line = curve.ratios[0] + np.outer(x / x[-1], rise)
    size = np.abs(rise).max()
    return bool(len(x) > 2 and size > 0 and np.abs(curve.ratios - line).max() < _STRAIGHT * size)  # noqa: PLR2004
