"""From the tensors of a query to what each of its items leaks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.errors import AssayError
from assay.gateway.server.scores import score_output

if TYPE_CHECKING:
    from assay.gateway.server.replies import Reply
    from assay.gateway.server.tensors import InputTensor
    from assay.leakage.base import Estimator

__all__ = ["estimate"]

_LOG = logging.getLogger("assay.gateway")


def estimate(
    estimator: Estimator, inputs: Sequence[InputTensor], n_items: int, reply: Reply | None
) -> NDArray[np.float64]:
    """Return log q of each item; NaN for all if the estimator cannot say.

    A pricing rule bills NaN at the 95th percentile of honest prices: an estimator that
    fails, on purpose or not, makes nothing cheaper.

    Parameters
    ----------
    estimator
        Makes log q.
    inputs, n_items
        The query.
    reply
        The model's own answer, for estimators that read scores.
    """
    import torch

    unknown = np.full(n_items, np.nan)
    array = inputs[0].array
    if array is None or len(inputs) != 1:
        return unknown
    try:
        x = torch.from_numpy(np.array(array, dtype=np.float32))
        given = None if reply is None else score_output(reply)
        scores = None if given is None else torch.from_numpy(np.array(given.array, dtype=np.float32))
        found = np.asarray(estimator.log_q(x, scores=scores), dtype=np.float64)
    except (AssayError, RuntimeError, ValueError):
        _LOG.warning("the estimator failed on a query", exc_info=True)
        return unknown
    return found if found.shape == unknown.shape else unknown
