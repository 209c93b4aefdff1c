"""What an exact copy is worth: the numbers beside its cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from assay.extraction.exact.exposure import Exposure
from assay.result import Interval, Record

__all__ = ["ExactWorth"]


@dataclass(frozen=True)
class ExactWorth(Record):
    """How much of a model an exact attack found, part of its `ExtractionRecord`.

    Parameters
    ----------
    family
        The model class that was assumed, in words: ``"softmax regression"``.
    unknowns
        Free parameters of that class.
    bound
        Fewest queries that could identify them, given what an answer tells.
    queries_per_unknown
        Queries spent over unknowns, the budget factor of the literature.
    parameter_error
        Largest absolute difference between a recovered and a true parameter once the
        symmetries of the class are removed; None where the truth was not given.
    r_test, r_unif
        Share of the evaluation rows, and of uniform inputs from the domain, on which
        the labels of copy and victim differ, with the exact (Clopper-Pearson) 95 %
        interval. The true rate is below ``high`` in 39 of 40 experiments, also when
        ``value`` is 0.
    tv_test, tv_unif, tv_unif_max
        Mean total variation distance of the scores on both sets, and its largest value
        on the uniform one; None where the victim shows no complete scores.
    flags
        What went otherwise than planned, such as ``"rank-deficient"``, ``"saturated"``.
    details
        Numbers and words of the single attack; plain JSON values.
    exposure
        What is known about recovered inputs, where the attack finds some.

    Examples
    --------
    >>> ExactWorth("softmax regression", 8, 3, 0.375, flags=("rank-deficient",)).exact
    False
    """

    family: str
    unknowns: int
    bound: int
    queries_per_unknown: float
    parameter_error: float | None = None
    r_test: Interval | None = None
    r_unif: Interval | None = None
    tv_test: float | None = None
    tv_unif: float | None = None
    tv_unif_max: float | None = None
    flags: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    exposure: Exposure | None = None

    @property
    def exact(self) -> bool:
        """True iff nothing was flagged and no measured label differs."""
        rates = [rate for rate in (self.r_test, self.r_unif) if rate is not None]
        return not self.flags and bool(rates) and all(rate.value == 0.0 for rate in rates)
