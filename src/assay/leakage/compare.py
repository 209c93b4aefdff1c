"""How far two estimators agree on which query leaks more."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

from assay.errors import InvalidInput
from assay.leakage.base import Estimator

__all__ = ["rank_agreement"]

_LEAST_ROWS = 3


def rank_agreement(estimator: Estimator, reference: Estimator, x: Tensor) -> float:
    """Return Spearman's rank correlation of two estimators over queries.

    Parameters
    ----------
    estimator, reference
        A fast estimator and the one that it stands for.
    x
        Queries ``[n, *input_shape]``, n >= 3, of the kinds that must be told apart:
        on honest traffic alone a correlation is about the noise among cheap queries.

    Returns
    -------
    float
        In [-1, 1]; 0 if one of the two gives all queries the same value.

    Raises
    ------
    InvalidInput
        For fewer than 3 queries.

    Examples
    --------
    >>> from assay.data import load_data
    >>> from assay.leakage import LinearHeads
    >>> data = load_data("iris")
    >>> heads = LinearHeads(teachers=5, features="inputs").fit(data)
    >>> round(rank_agreement(heads, heads, data.x), 6)
    1.0
    """
    if len(x) < _LEAST_ROWS:
        msg = f"a rank correlation needs at least {_LEAST_ROWS} queries, got {len(x)}"
        raise InvalidInput(msg)
    ours, theirs = estimator.log_q(x), reference.log_q(x)
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return 0.0
    return float(spearmanr(ours, theirs).statistic)
