"""Equation solving: logistic models from their scores, one linear system instead of a search."""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from assay.errors import InvalidInput, UnknownName
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.design import Design, axis_points, uniform_points
from assay.extraction.exact.gauss_newton import Link, fit_logs, log_scores, one_vs_rest_starts
from assay.extraction.exact.hidden_scores import ask_hidden, reveal
from assay.extraction.exact.linear_models import as_one_vs_rest, as_softmax, linear_error
from assay.extraction.exact.linear_system import ask_unsaturated, solve_softmax
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.precision import Grain, find_grain
from assay.extraction.exact.recovered import Recovered
from assay.extraction.exact.rounded import cross_entropy
from assay.extraction.exact.rounded_queries import RoundedFit, fit_rounded
from assay.model import Access
from assay.observers import Observer
from assay.registry import nearest, register

__all__ = ["EquationSolving", "LogisticModel"]

LogisticModel = Literal["auto", "softmax", "one-vs-rest"]
_BINARY = 2
_NEGLIGIBLE, _CLOSE = 1e-9, 0.05
_RETRIES = 4
_TELLING = 3  # different scores, as `find_grain` wants
_TOLERANCE = 1e9  # of a check, in units of the answers' resolution: 1e-7 for float64


@dataclass(frozen=True, eq=False)
class _Guess:
    """Weights of one model class with their largest error on rows that were kept aside."""

    link: Link
    coef: np.ndarray
    intercept: np.ndarray
    gap: float
    flags: tuple[str, ...] = ()
    details: tuple[tuple[str, Any], ...] = ()


@register("equation-solving", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class EquationSolving(ExactAttack):
    """Recover a logistic model (binary, softmax, one-vs-rest) by solving equations in its scores.

    Log-ratios of softmax scores are linear in the input: ``d + 1`` answers and one
    least-squares problem give all classes at once. One-vs-rest needs
    ``ceil((d + 1) c / (c - 1))`` answers and Gauss-Newton steps. Scores that saturate are
    noticed and asked again nearer to the centre; scores of which only the largest are
    shown, and rounded scores (see ``queries``, ``flips``), are understood as well.

    ``parameters`` of the result: ``coef`` ``[c, d]`` and ``intercept`` ``[c]``, for a softmax
    relative to class 0.

    Parameters
    ----------
    model
        ``"softmax"`` (which for two classes is logistic regression), ``"one-vs-rest"``, or
        ``"auto"``: whichever predicts the check rows from the same answers.
    design
        Points to ask: ``"axes"``, the centre of the domain and a step along each feature,
        at which hardly anything saturates; or ``"uniform"`` at random.
    queries
        Answers to use, at least 1; None for as few as the model class needs, or
        ``5 c (d + 1)`` if scores are rounded.
    checks
        Further random rows on which the solution is checked; without any, a victim of
        another class is not noticed.
    restarts
        Starts of the Gauss-Newton steps, at least 1.
    flips
        For rounded scores: also search for points at which a digit changes. Each is one
        exact equation, for about 35 queries.

    References
    ----------
    Tramèr, Zhang, Juels, Reiter and Ristenpart, "Stealing Machine Learning Models via
    Prediction APIs", USENIX Security 2016, section 4.1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from assay.adapters.sklearn_model import SklearnModel
    >>> victim = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    >>> theft = EquationSolving(checks=0).run(SklearnModel(victim), truth=victim, uniform=1000)
    >>> theft.record.cost.queries, theft.worth.parameter_error < 1e-9, theft.worth.r_unif.value
    (5, True, 0.0)
    """

    name: ClassVar[str] = "equation-solving"
    needs: ClassVar[Access] = Access.SCORES

    model: LogisticModel = "auto"
    design: Design = "axes"
    queries: int | None = None
    checks: int = 2
    restarts: int = 3
    flips: bool = False

    def __post_init__(self) -> None:
        for value, known in ((self.model, LogisticModel), (self.design, Design)):
            if value not in typing.get_args(known):
                raise UnknownName(nearest(value, list(typing.get_args(known)), "choice"))
        if (self.queries is not None and self.queries < 1) or self.checks < 0 or self.restarts < 1:
            msg = "queries and restarts must be at least 1, and checks at least 0"
            raise InvalidInput(msg)

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - seconds of work
    ) -> Recovered:
        """Ask, see what the answers are like, solve."""
        unknowns = oracle.size + 1
        wanted = max(unknowns, self.queries or 0) if self.queries is None else self.queries
        left = wanted if oracle.remaining is None else oracle.remaining
        if left < 1:
            msg = f"equation-solving needs {unknowns} queries of {oracle.name} and the budget covers none"
            raise InvalidInput(msg)
        # A service that says so may round; a few answers show whether it does.
        rows = min(wanted, left) if oracle.complete_scores else min(unknowns, left)
        points = self._points(oracle, rows, rng)
        x, scores, saturated = ask_unsaturated(oracle, points, oracle.domain.centre, limit=_limit(oracle))
        if not len(x):
            msg = f"the scores of {oracle.name} are 0 or 1 wherever it was asked, so they give no equations"
            raise InvalidInput(msg)
        if not oracle.complete_scores and not _telling(scores):
            x, scores = self._until_telling(oracle, x, scores, rng)
        grain = find_grain(scores)
        if grain.rounded:
            return self._rounded(oracle, x, scores, grain, rng)
        if (scores == 0).any():
            guess = self._hidden(oracle, x, scores, rng)
        else:
            guess = self._complete(oracle, x, scores, grain, rng)
        flags = [f for f, true in (("saturated", saturated), ("float32", grain.title == "float32")) if true]
        return self._result(oracle, guess, tuple(flags), {"answers": grain.title, "saturated": saturated})

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Return the largest error of a weight or bias, see `linear_error`."""
        kind = found.details["model"]
        return linear_error(kind, found.parameters["coef"], found.parameters["intercept"], truth)

    def _points(self, oracle: Oracle, rows: int, rng: np.random.Generator) -> np.ndarray:
        if self.design == "uniform":
            return uniform_points(oracle.domain, rows, rng)
        axes = axis_points(oracle.domain)[:rows]
        return np.vstack([axes, uniform_points(oracle.domain, rows - len(axes), rng)])

    def _complete(
        self, oracle: Oracle, x: np.ndarray, scores: np.ndarray, grain: Grain, rng: np.random.Generator
    ) -> _Guess:
        checks = self._check_rows(oracle, rng)
        enough = grain.step * _TOLERANCE
        guesses = []
        if self.model != "one-vs-rest" or oracle.num_classes == _BINARY:
            solved = solve_softmax(x, scores)
            deficient = ("rank-deficient",) if solved.rank <= oracle.size else ()
            guess = _guess("softmax", solved.coef, solved.intercept, checks, deficient)
            if (deficient or guess.gap <= enough) and self.model != "one-vs-rest":
                return guess
            guesses.append(guess)
        if self.model != "softmax" and oracle.num_classes > _BINARY:
            more = max(_bound(oracle, "one-vs-rest") - len(x), 0)
            for _ in range(_RETRIES):
                more = more if oracle.remaining is None else min(more, oracle.remaining)
                extra = uniform_points(oracle.domain, more, rng)
                if more:
                    x, scores = np.vstack([x, extra]), np.vstack([scores, oracle.scores(extra)])
                starts = one_vs_rest_starts(x, scores)
                fit = fit_logs(x, scores, "one-vs-rest", rng, restarts=self.restarts, starts=starts)
                wrong = _guess("one-vs-rest", fit.coef, fit.intercept, checks, ()).gap > enough
                # At the bound a search may stick close to the answer, or find another one; a
                # few more rows tell.
                stuck = _NEGLIGIBLE < fit.residual < _CLOSE or (wrong and fit.residual <= _NEGLIGIBLE)
                if not stuck or self.queries is not None:
                    break
                more = math.ceil((oracle.size + 1) / 3)
                if not oracle.covers(more):
                    break
            deficient = ("rank-deficient",) if len(x) < _bound(oracle, "one-vs-rest") else ()
            guess = _guess("one-vs-rest", fit.coef, fit.intercept, checks, deficient)
            effort = (("residual", fit.residual), ("starts", fit.starts))
            guesses.append(_Guess(guess.link, guess.coef, guess.intercept, guess.gap, guess.flags, effort))
        best = min(guesses, key=lambda g: g.gap)
        if best.gap <= enough:
            return best
        return self._inexact(x, scores, checks, best)

    def _inexact(
        self, x: np.ndarray, scores: np.ndarray, checks: tuple[np.ndarray, np.ndarray], best: _Guess
    ) -> _Guess:
        """Another class, or noise: with more rows than unknowns, likelihood beats equations."""
        flags = (*best.flags, "model-mismatch")
        found = best
        if len(x) > x.shape[1] + 1:
            weights = cross_entropy(x, scores, best.link)
            fit = _guess(best.link, weights[:, :-1], weights[:, -1], checks, ())
            found = fit if fit.gap < best.gap else best
        return _Guess(found.link, found.coef, found.intercept, found.gap, flags, best.details)

    def _hidden(self, oracle: Oracle, x: np.ndarray, scores: np.ndarray, rng: np.random.Generator) -> _Guess:
        x, scores = ask_hidden(oracle, x, scores, rng)
        checks = reveal(*self._check_rows(oracle, rng))
        links: tuple[Link, ...] = ("softmax", "one-vs-rest")
        chosen = (
            [m for m in links if self.model in ("auto", m)] if oracle.num_classes > _BINARY else links[:1]
        )
        best: _Guess | None = None
        for link in chosen:
            fit = fit_logs(x, scores, link, rng, restarts=self.restarts)
            flags = () if fit.residual < _NEGLIGIBLE else ("model-mismatch",)
            guess = _guess(link, fit.coef, fit.intercept, checks, flags, residual=fit.residual)
            if best is None or guess.gap + fit.residual < best.gap:
                best = guess
            if not flags:
                break
        assert best is not None
        return best

    def _rounded(
        self, oracle: Oracle, x: np.ndarray, scores: np.ndarray, grain: Grain, rng: np.random.Generator
    ) -> Recovered:
        rows = self.queries or 5 * oracle.num_classes * (oracle.size + 1)
        link: Link | None = None if self.model == "auto" else self.model
        found: RoundedFit = fit_rounded(oracle, x, scores, grain, rows, rng, link=link, flips=self.flips)
        flags = ("rounded",) if found.feasible else ("rounded", "model-mismatch")
        guess = _Guess(found.link, found.weights[:, :-1], found.weights[:, -1], 0.0)
        details = {"answers": grain.title, "feasible": found.feasible, "flips": found.flips}
        return self._result(oracle, guess, flags, details)

    def _until_telling(
        self, oracle: Oracle, x: np.ndarray, scores: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ask on while scores are all 0 or 1: hidden ones and rounded ones look alike there."""
        most = self.queries or 5 * oracle.num_classes * (oracle.size + 1)
        while not _telling(scores) and len(x) < most and oracle.covers(1):
            rows = min(len(x), most - len(x))
            points = uniform_points(oracle.domain, rows if oracle.covers(rows) else 1, rng)
            x, scores = np.vstack([x, points]), np.vstack([scores, oracle.scores(points)])
        return x, scores

    def _check_rows(self, oracle: Oracle, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = self.checks if oracle.remaining is None else min(self.checks, oracle.remaining)
        x = uniform_points(oracle.domain, rows, rng)
        return x, oracle.scores(x) if rows else np.empty((0, oracle.num_classes))

    def _result(
        self, oracle: Oracle, guess: _Guess, flags: tuple[str, ...], details: dict[str, Any]
    ) -> Recovered:
        softmax = guess.link == "softmax"
        classes, size = guess.coef.shape
        model = (as_softmax if softmax else as_one_vs_rest)(guess.coef, guess.intercept)
        constant = np.abs(guess.coef - guess.coef[:1] if softmax else guess.coef).max() < _NEGLIGIBLE
        family = "logistic regression" if classes == _BINARY else f"{guess.link} regression"
        return Recovered(
            model,
            family,
            # The literature counts c (d + 1), though of a softmax one class is only a shift.
            unknowns=(size + 1) * (1 if classes == _BINARY else classes),
            bound=_bound(oracle, guess.link),
            parameters={"coef": guess.coef, "intercept": guess.intercept},
            flags=(*flags, *guess.flags, *(("constant",) if constant else ())),
            details={"model": guess.link, "check": guess.gap, **dict(guess.details), **details},
        )


def _telling(scores: np.ndarray) -> bool:
    """Return whether there are enough scores between 0 and 1 to see how they are rounded."""
    return len(np.unique(scores[(scores > 0) & (scores < 1)])) >= _TELLING


def _limit(oracle: Oracle) -> float | None:
    # A service that hides or rounds scores shows zeros; those are no saturation.
    return None if oracle.complete_scores else math.inf


def _bound(oracle: Oracle, link: Link) -> int:
    c = oracle.num_classes
    return oracle.size + 1 if link == "softmax" else math.ceil((oracle.size + 1) * c / (c - 1))


def _guess(
    link: Link,
    coef: np.ndarray,
    intercept: np.ndarray,
    checks: tuple[np.ndarray, np.ndarray],
    flags: tuple[str, ...],
    **details: Any,
) -> _Guess:
    x, scores = checks
    gap = 0.0
    if len(x):
        ours = np.exp(log_scores(x @ coef.T + intercept, link))
        gap = float(np.abs(np.where(scores > 0, ours - scores, 0.0)).max())
    return _Guess(link, coef, intercept, gap, flags, tuple(details.items()))
