"""The published aggregate of dataset inference, kept for comparison only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from assay.statistics.inputs import FloatArray, as_p_values

__all__ = ["harmonic_mean_aggregate"]


def harmonic_mean_aggregate(p_values: ArrayLike, axis: int = -1) -> FloatArray:
    """Harmonic mean of p-values: NOT a p-value.

    For 100 independent uniform p-values its median is 0.158, not 0.5, and it falls below
    0.05 with probability 0.078. Drawing the p-values from overlapping subsets of one pool,
    as published, also hides that the whole pool was revealed. Use one test on all rows.

    Parameters
    ----------
    p_values
        Any shape with at least one axis, in [0, 1].
    axis
        Axis that is aggregated.

    Returns
    -------
    numpy.ndarray
        float64; 0 where some p-value is 0.

    Raises
    ------
    InvalidInput
        If a p-value lies outside [0, 1] or there is none.

    References
    ----------
    Maini et al. 2021, "Dataset Inference: Ownership Resolution in Machine Learning";
    Chen et al. 2024, "Sub-uniformity of harmonic mean p-values".

    Examples
    --------
    >>> harmonic_mean_aggregate([0.01, 0.5, 1.0]).round(4)
    np.float64(0.0291)
    """
    p = np.atleast_1d(as_p_values(p_values))
    with np.errstate(divide="ignore"):
        return np.asarray(p.shape[axis] / np.sum(1.0 / p, axis=axis), dtype=np.float64)
