"""From scores between sure and unsure to the scale of log q."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

from assay.errors import InvalidInput
from assay.privacy.orders import FloatArray

__all__ = ["RATIO", "doubt_to_log_q"]

RATIO = 0.04
"""Noise for each voter, sigma/T, in all published teacher ensembles."""


def doubt_to_log_q(doubt: ArrayLike, num_classes: int, ratio: float = RATIO) -> FloatArray:
    """Read a doubt in [0, 1] as the lead ``1 - doubt`` of a winner over one rival, and return log q.

    Strictly increasing, so that ranks are kept; 0 becomes that of a unanimous vote (-160
    at the usual ratio), 1 that of a tie of two.

    Parameters
    ----------
    doubt
        0 is sure, 1 is undecided; ``[n]``. Values outside are clipped.
    num_classes
        Number of classes, at least 2.
    ratio
        Standard deviation of the noise for each voter, > 0.

    Returns
    -------
    numpy.ndarray
        float64 ``[n]``, below 0.

    Examples
    --------
    >>> doubt_to_log_q([0.0, 0.5, 1.0], 10).round(2)
    array([-160.04,  -42.17,   -0.69])
    """
    values = np.asarray(doubt, dtype=np.float64)
    if num_classes < 2 or not ratio > 0:  # noqa: PLR2004
        msg = f"log q needs at least 2 classes and a ratio above 0, got {num_classes} and {ratio}"
        raise InvalidInput(msg)
    lead = 1.0 - np.clip(values, 0.0, 1.0)
    found = np.asarray(log_ndtr(-lead / (math.sqrt(2.0) * ratio)), dtype=np.float64)
    return np.minimum(found, math.log1p(-1.0 / num_classes))
