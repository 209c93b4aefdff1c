"""Where to ask: points at which a linear system is well posed and answers do not saturate."""

from __future__ import annotations

from typing import Literal

import numpy as np

from assay.extraction.exact.domain import Domain

__all__ = ["Design", "axis_points", "representable", "uniform_points"]

Design = Literal["axes", "uniform"]
_STEP = 0.25  # of a feature's span: 0.5 in [-1, 1]


def representable(x: np.ndarray) -> np.ndarray:
    """Return ``x`` rounded to float32, as float64.

    Services that compute in float32 would otherwise see another input than the one that
    enters the equations.
    """
    return x.astype(np.float32).astype(np.float64)


def axis_points(domain: Domain) -> np.ndarray:
    """Return the centre and one step along each axis, float64 ``[d + 1, d]``.

    Scores saturate less there than at random points: a step changes one weight's share
    only.
    """
    centre = domain.centre
    return representable(np.vstack([centre, centre + np.diag(_STEP * domain.span)]))


def uniform_points(domain: Domain, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return points drawn uniformly from the box, float64 ``[rows, d]``."""
    return representable(rng.uniform(domain.low, domain.high, (rows, domain.size)))
