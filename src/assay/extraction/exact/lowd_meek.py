"""Labels only, one coordinate at a time: the classic attack on linear classifiers, in batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from assay.errors import BudgetExceeded, InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.bisection import Brackets, bisect
from assay.extraction.exact.boundary import linear_error
from assay.extraction.exact.labelled import Labelled, is_continuous
from assay.extraction.exact.monomials import Monomials
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.recovered import Recovered
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["LowdMeek"]

_REACH = 2.0**27  # weights below 1e-8 of the reference weight count as 0
_OCTAVES = 54  # from 2**-27 to 2**27
_FEWEST_BITS = 2
_PAIR = 2


@register("lowd-meek", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class LowdMeek(ExactAttack):
    """Recover a linear classifier of two classes from labels, weight by weight.

    A *sign witness* is a coordinate that alone flips the label between two inputs. One unit
    away from the boundary along it, every other weight is the inverse of the distance at
    which its own coordinate crosses the boundary. All coordinates are searched together,
    so that the number of round trips does not depend on their number.

    Unlike `assay.extraction.exact.boundary.Boundary` it finds zero weights as exact zeros at
    2 queries each, but it asks about inputs far outside the box, and needs more queries
    where all weights count.

    Parameters
    ----------
    bits
        Halvings of each crossing, 2 to 50: relative precision ``2**-bits`` of each weight;
        fewer where the budget demands it.
    search
        Queries to spend at most until a second label is seen.

    References
    ----------
    Lowd and Meek, "Adversarial Learning", KDD 2005, section 3; Tramer et al. 2016,
    section 6.1.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> victim = CallableModel(lambda x: (x @ [1.0, 0.0, -4.0] > 0.3).astype(int), (3,), 2)
    >>> theft = LowdMeek(bits=40).run(victim)
    >>> coef = theft.found.model.coef_[0]
    >>> (coef / coef[0]).round(8).tolist(), theft.record.cost.queries < 150
    ([1.0, 0.0, -4.0], True)
    """

    name: ClassVar[str] = "lowd-meek"
    needs: ClassVar[Access] = Access.LABELS

    bits: int = 30
    search: int = 2000

    def __post_init__(self) -> None:
        if not _FEWEST_BITS <= self.bits <= 50 or self.search < 0:  # noqa: PLR2004
            msg = f"bits must be 2 to 50 and search at least 0, got {self.bits} and {self.search}"
            raise InvalidInput(msg)

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the ledger tells them
    ) -> Recovered:
        """Recover the classifier behind the labels; see `ExactAttack.recover`."""
        d = oracle.size
        if oracle.num_classes != _PAIR or not is_continuous(oracle.domain):
            msg = "lowd-meek needs two classes and continuous features; try boundary or adaptive-retraining"
            raise InvalidInput(msg)
        # The witness, its crossing, signs and octaves of all others.
        fixed = math.ceil(math.log2(d)) + (d - 1) * (2 + math.ceil(math.log2(_OCTAVES)))
        if not oracle.covers(2 + fixed + _FEWEST_BITS * d):
            msg = (
                f"lowd-meek needs at least {2 + fixed + _FEWEST_BITS * d} queries for the {d} features of "
                f"{oracle.name}, but the budget leaves {oracle.remaining}"
            )
            raise BudgetExceeded(msg)
        seen = Labelled(oracle, rng)
        seen.draw(2)
        phi = Monomials(1, oracle.domain)
        family = "linear classifier of 2 classes"
        if not seen.found_two(self.search, reserve=fixed + _FEWEST_BITS * d):
            constant = np.zeros((2, d + 1))
            constant[seen.labels[0], -1] = 1.0
            details = {"searched": len(seen.x), "label": int(seen.labels[0])}
            found = ("no-boundary-found",)
            return Recovered(phi.estimator(constant), family, 1, 1, flags=found, details=details)
        bits = self.bits if oracle.remaining is None else min(self.bits, (oracle.remaining - fixed) // d)
        weights, bias = self._weights(oracle, seen, bits)
        theta = np.zeros((2, d + 1))
        theta[1, :-1] = weights * phi.half
        theta[1, -1] = bias + weights @ phi.middle
        theta /= np.linalg.norm(theta)
        return Recovered(
            phi.estimator(theta),
            family,
            d + 1,
            d * bits,  # a bit for each bit of each weight but the scale
            parameters={"theta": theta, "middle": phi.middle, "half": phi.half},
            flags=() if bits == self.bits else ("budget-limited",),
            details={"bits": bits, "zero_weights": int((weights == 0).sum())},
        )

    def _weights(self, oracle: Oracle, seen: Labelled, bits: int) -> tuple[np.ndarray, float]:
        """Return weights with the witness's at 1 or -1, and the bias."""
        positive = seen.x[seen.labels == 1][0]
        negative = seen.x[seen.labels == 0][0]
        low, high = 0, len(positive)
        # The first so many coordinates come from the positive input; the label flips between.
        while high - low > 1:
            cut = (low + high) // 2
            mixed = np.r_[positive[:cut], negative[cut:]]
            low, high = (low, cut) if oracle.labels(mixed[None])[0] == 1 else (cut, high)
        witness = low
        above = np.r_[positive[:high], negative[high:]]
        below = np.r_[positive[:low], negative[low:]]
        sign = float(np.sign(above[witness] - below[witness]))
        ends = Brackets(below[None], above[None], np.array([0]), np.array([1]))
        on_boundary = bisect(oracle.labels, ends, bits).middle[0]
        weights = np.zeros(len(positive))
        weights[witness] = sign
        start = on_boundary.copy()
        start[witness] -= sign  # one unit below the boundary in the scale of the witness
        others = np.delete(np.arange(len(positive)), witness)
        if len(others):
            weights[others] = self._crossings(oracle, start, others, bits)
        return weights, -float(weights @ on_boundary)

    def _crossings(self, oracle: Oracle, start: np.ndarray, others: np.ndarray, bits: int) -> np.ndarray:
        """Return the weight of each coordinate from where it crosses the boundary."""
        n = len(others)

        def along(steps: np.ndarray, which: np.ndarray) -> np.ndarray:
            x = np.repeat(start[None], len(which), axis=0)
            x[np.arange(len(which)), others[which]] += steps
            return x

        everyone = np.arange(n)
        probes = np.r_[along(np.full(n, _REACH), everyone), along(np.full(n, -_REACH), everyone)]
        answers = oracle.labels(probes).reshape(2, n)
        crossing = np.flatnonzero(answers[0] != answers[1])
        weights = np.zeros(n)
        if not len(crossing):
            return weights
        side = np.where(answers[0][crossing] == 1, 1.0, -1.0)
        low = np.full(len(crossing), -_OCTAVES // 2)
        high = np.full(len(crossing), _OCTAVES // 2)
        for _ in range(math.ceil(math.log2(_OCTAVES))):
            octave = (low + high) // 2
            crossed = oracle.labels(along(side * 2.0**octave, crossing)) == 1
            low, high = np.where(crossed, low, octave), np.where(crossed, octave, high)
        ends = Brackets(
            along(side * 2.0**low, crossing),
            along(side * 2.0**high, crossing),
            np.zeros(len(crossing), dtype=np.int64),
            np.ones(len(crossing), dtype=np.int64),
        )
        found = bisect(oracle.labels, ends, bits).middle
        distance = found[np.arange(len(crossing)), others[crossing]] - start[others[crossing]]
        weights[crossing] = 1.0 / distance
        return weights

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Return the largest coefficient error at norm 1; see `assay.extraction.exact.boundary`."""
        return linear_error(found, truth, 1)
