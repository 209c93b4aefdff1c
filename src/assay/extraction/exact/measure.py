"""How far a recovered model is from its victim, measured by the owner."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.extraction.exact.domain import Domain
from assay.model import Access, Model, shows_complete_scores
from assay.result import Interval
from assay.statistics import clopper_pearson

__all__ = ["SEED", "disagreement", "measured", "total_variation"]

SEED = 999  # every run is measured on the same uniform inputs


def measured(
    victim: Model, copy: Model, evaluation: Dataset | None, domain: Domain, uniform: int
) -> dict[str, Any]:
    """Return the measured fields of `ExactWorth` as keyword arguments.

    Parameters
    ----------
    victim, copy
        The models to compare; neither is metered.
    evaluation
        Rows for the ``*_test`` fields, or None.
    domain, uniform
        Box and number of rows for the ``*_unif`` fields; 0 rows measure nothing.

    A victim without labels (a regression service) is not compared here.
    """
    found: dict[str, Any] = {}
    if Access.LABELS not in victim.access:
        return found
    if evaluation is not None and len(evaluation):
        found["r_test"] = disagreement(victim, copy, evaluation.x)
        distance = total_variation(victim, copy, evaluation.x)
        found["tv_test"] = None if distance is None else float(distance.mean())
    if uniform:
        rows = domain.uniform(uniform, np.random.default_rng(SEED))
        x = torch.from_numpy(rows).reshape(uniform, *victim.input_shape)
        found["r_unif"] = disagreement(victim, copy, x)
        distance = total_variation(victim, copy, x)
        if distance is not None:
            found |= {"tv_unif": float(distance.mean()), "tv_unif_max": float(distance.max())}
    return found


def disagreement(victim: Model, copy: Model, x: Tensor) -> Interval:
    """Return the share of rows on which the labels differ, with its Clopper-Pearson interval."""
    return clopper_pearson(int((victim.labels(x) != copy.labels(x)).sum()), len(x))


def total_variation(victim: Model, copy: Model, x: Tensor) -> np.ndarray | None:
    """Return half the L1 distance of the scores of each row, or None where they are not shown."""
    both = all(Access.SCORES in m.access and shows_complete_scores(m) for m in (victim, copy))
    if not both:
        return None
    gap = victim.scores(x).double() - copy.scores(x).double()
    distance: np.ndarray = 0.5 * gap.abs().sum(1).numpy()
    return distance
