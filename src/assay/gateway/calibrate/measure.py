"""Measuring: log q of every profile and pool, and the time that an answer and its price take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.leakage import Estimator
from assay.model import Model

__all__ = ["LEAST_ANSWER_SECONDS", "Timing", "doubts_of", "time_per_item"]

LEAST_ANSWER_SECONDS = 0.001
"""What an answer over HTTP takes at least, however fast the model alone is.

The gateway's own share of a request is about that, and bare model servers take longer. A network
of some microseconds would otherwise leave no room for any work at all.
"""

_BATCH = 16
_ROUNDS = 15


def doubts_of(
    estimator: Estimator, model: Model, sets: Mapping[str, Dataset]
) -> dict[str, NDArray[np.float64]]:
    """Return log q of each data set, in its order; sets that are the same object are asked once."""
    found: dict[int, NDArray[np.float64]] = {}
    for data in sets.values():
        if id(data) not in found:
            scores = model.scores(data.x) if estimator.reads_scores else None
            found[id(data)] = estimator.log_q(data.x, scores=scores)
    return {name: found[id(data)] for name, data in sets.items()}


@dataclass(frozen=True)
class Timing:
    """Seconds a query takes.

    Parameters
    ----------
    inference
        The model's answer.
    estimator
        The leakage estimate on top of it, given the answer's scores where it reads them.

    Raises
    ------
    InvalidInput
        For times that are no times.
    """

    inference: float
    estimator: float

    def __post_init__(self) -> None:
        if not 0 < self.inference < math.inf or not 0 <= self.estimator < math.inf:
            msg = f"seconds of an answer must be above 0, and of its price not negative, got {self}"
            raise InvalidInput(msg)


def time_per_item(estimator: Estimator, model: Model, x: Tensor) -> Timing:
    """Return the median time of an answer and of its estimate, in requests of 16 items."""
    rows = x[: _BATCH * 4]
    scores = model.scores(rows) if estimator.reads_scores else None

    def ask(start: int) -> object:
        return model.scores(rows[start : start + _BATCH])

    def estimate(start: int) -> object:
        known = None if scores is None else scores[start : start + _BATCH]
        return estimator.log_q(rows[start : start + _BATCH], scores=known)

    return Timing(_median(ask, len(rows)), _median(estimate, len(rows)))


def _median(work: Callable[[int], object], rows: int) -> float:
    starts = [i for i in range(0, rows, _BATCH) if i + _BATCH <= rows] or [0]
    size = min(_BATCH, rows)
    work(0)  # the first call allocates
    times = []
    for turn in range(_ROUNDS):
        begun = time.perf_counter()
        work(starts[turn % len(starts)])
        times.append((time.perf_counter() - begun) / size)
    return float(np.median(times))
