"""What every test of private against control rows must keep, as one call."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.result import TestResult
from assay.statistics import binomial_test, uniformity
from assay.testing.watched import demand

__all__ = ["check_test"]

_LEVEL = 0.001
# A parametric test may be off a little on small samples; a third more false claims is too many.
_TOLERANCE = 4 / 3
_NOMINAL = (0.01, 0.05, 0.1)

Array = NDArray[np.float64]
Test = Callable[..., TestResult]


def check_test(test: Test, *, draws: int = 200) -> None:
    """Check that a test of ``(private, control)`` scores keeps its promises.

    The p-value is in (0, 1]; degenerate rows give 1 and a reason; inputs are not modified
    and the same seed gives the same answer; larger private scores are evidence and
    smaller ones are not; under the null p-values are not smaller than uniform ones. A
    test whose results say ``exact`` is held to the last point on skewed, tied and
    unbalanced scores; a parametric one on normal scores, with a third more rejections
    than nominal allowed.

    Parameters
    ----------
    test
        Called as ``test(private, control)``, with ``rng=seed`` if it has such a parameter.
    draws
        Null cases a scenario, at least 50.

    Raises
    ------
    AssertionError
        With a sentence that says which promise was broken.

    Examples
    --------
    >>> from assay.statistics import welch_test
    >>> check_test(welch_test, draws=50)
    """
    call = _seeded(test)
    _check_answers(call)
    _check_degenerate(call)
    _check_direction(call)
    exact = call(*_normal(np.random.default_rng(0), 12, 12), 0).exact
    if exact:
        _check_exact(call, draws)
    else:
        _check_parametric(call, draws)


def _seeded(test: Test) -> Callable[[Array, Array, int], TestResult]:
    takes_rng = "rng" in inspect.signature(test).parameters

    def call(private: Array, control: Array, seed: int) -> TestResult:
        result = test(private, control, **({"rng": seed} if takes_rng else {}))
        demand(
            isinstance(result, TestResult), f"a test must return a TestResult, got {type(result).__name__}"
        )
        p = result.p_value
        demand(math.isfinite(p) and 0 < p <= 1, f"a p-value must be in (0, 1], got {p}")
        return result

    return call


def _normal(rng: np.random.Generator, n: int, m: int, shift: float = 0.0) -> tuple[Array, Array]:
    return rng.normal(shift, 1.0, n), rng.normal(0.0, 1.0, m)


def _check_answers(call: Callable[[Array, Array, int], TestResult]) -> None:
    private, control = _normal(np.random.default_rng(1), 15, 18, 0.4)
    copies = private.copy(), control.copy()
    first, second = call(private, control, 3), call(private, control, 3)
    unchanged = np.array_equal(private, copies[0]) and np.array_equal(control, copies[1])
    demand(unchanged, "the test modified its inputs")
    demand(first == second, "the same seed gives two different results")
    demand(TestResult.from_json(first.to_json()) == first, "the result changes on its way through JSON")
    demand(first.test and first.null and first.n, "a result must name its test, its null and its rows")


def _check_degenerate(call: Callable[[Array, Array, int], TestResult]) -> None:
    private, control = _normal(np.random.default_rng(2), 8, 8, 3.0)
    spoilt = {value: np.where(np.arange(8) == 2, value, private) for value in (math.nan, math.inf)}  # noqa: PLR2004 - any row
    cases: dict[str, tuple[Any, Any]] = {
        "equal scores": (np.ones(8), np.ones(8)),
        "no rows": (np.empty(0), np.empty(0)),
        "no control rows": (private, np.empty(0)),
        "one row a group": (private[:1], control[:1]),
        "NaN": (spoilt[math.nan], control),
        "infinity": (spoilt[math.inf], control),
    }
    for what, (x, y) in cases.items():
        result = call(x, y, 0)
        demand(result.p_value == 1.0, f"{what} must give p = 1, got {result.p_value:.3g}")
        demand(result.reason, f"{what} must give a reason")


def _check_direction(call: Callable[[Array, Array, int], TestResult]) -> None:
    high, low = _normal(np.random.default_rng(4), 40, 40, 3.0)
    claim, opposite = call(high, low, 0).p_value, call(low, high, 0).p_value
    demand(claim <= 0.01, f"private scores 3 sd above control ones give only p = {claim:.3g}")  # noqa: PLR2004 - alpha
    demand(opposite > 0.5, f"private scores below control ones count as evidence: p = {opposite:.3g}")  # noqa: PLR2004


def _scenarios(rng: np.random.Generator) -> Iterator[tuple[str, Array, int]]:
    """Yield pools of scores and numbers of private rows; which rows are private is random."""
    yield "skewed", rng.exponential(size=24) ** 3, 12
    yield "tied", rng.integers(2, size=16).astype(np.float64), 8
    yield "unbalanced", rng.standard_t(1.5, size=30), 6


def _check_exact(call: Callable[[Array, Array, int], TestResult], draws: int) -> None:
    rng = np.random.default_rng(5)
    p_values: dict[str, list[float]] = {}
    for seed in range(draws):
        for name, pool, private in _scenarios(rng):
            rows = rng.permutation(pool)
            p_values.setdefault(name, []).append(call(rows[:private], rows[private:], seed).p_value)
    for name, found in p_values.items():
        check = uniformity(found)
        demand(
            check.p_value > _LEVEL,
            f"the test says it is exact, but its p-values on randomly split {name} scores are too small "
            f"(Kolmogorov-Smirnov p = {check.p_value:.2g})",
        )


def _check_parametric(call: Callable[[Array, Array, int], TestResult], draws: int) -> None:
    rng = np.random.default_rng(6)
    found = np.array([call(*_normal(rng, 20, 20), seed).p_value for seed in range(draws)])
    for alpha in _NOMINAL:
        rejections = int((found <= alpha).sum())
        check = binomial_test(rejections, draws, alpha * _TOLERANCE)
        demand(
            check.p_value > _LEVEL,
            f"the test rejects {rejections} of {draws} normal null cases at alpha = {alpha:g}",
        )
