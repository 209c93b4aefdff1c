"""How much any price of single queries can ever do: the supremum of the likelihood ratio.

If honest queries have density p over scores and the attack's have density a, then for any
price w >= 0 of a query's score, ``E_a[w] / E_p[w] <= sup a/p``, with equality only for a
price that is zero below the most telling scores. No calibration escapes this; more than
that takes evidence over many queries, which is what accounts and their sums are for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from assay.gateway.simulation.streams import as_pool

__all__ = ["likelihood_bound"]


def likelihood_bound(honest: ArrayLike, suspect: ArrayLike, *, bins: int = 32) -> float:
    """Estimate the supremum of the likelihood ratio of suspect over honest scores.

    Parameters
    ----------
    honest, suspect
        Log flip probabilities, ``[n]`` and ``[m]``.
    bins
        Quantile bins of the honest sample. A supremum over single points would be infinite
        for every finite sample; each bin holds enough honest queries to be an estimate.

    Returns
    -------
    float
        At least 1. A price that rises with log q cannot have a larger ratio on average.

    Examples
    --------
    >>> honest = -np.arange(1.0, 101.0)
    >>> likelihood_bound(honest, honest[:50]), likelihood_bound(honest, honest)
    (2.0, 1.0)
    """
    ours, theirs = as_pool(honest, "honest"), as_pool(suspect, "suspect")
    edges = np.unique(np.quantile(ours, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    shares = [
        np.bincount(np.searchsorted(edges, x, side="right"), minlength=edges.size + 1) / x.size
        for x in (ours, theirs)
    ]
    return float(np.max(np.divide(shares[1], shares[0], out=np.zeros_like(shares[0]), where=shares[0] > 0.0)))
