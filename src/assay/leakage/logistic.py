"""Many multinomial logistic regressions at once, one on each part of the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["fit_logistic"]

_POWER_STEPS = 30
_TOLERANCE = 2e-4
_CHECK_EVERY = 20


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    parts: Sequence[NDArray[np.int64]],
    num_classes: int,
    *,
    l2: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Fit one regression on each part by accelerated gradients, all parts in each step.

    Each minimises ``sum_i -log p(y_i | x_i) + l2/2 |W|^2`` with a free intercept, which
    is scikit-learn's logistic regression with ``C = 1/l2``. A class that a part does not
    have is never chosen there.

    Parameters
    ----------
    features
        float32 ``[rows, d]``.
    labels
        int64 ``[rows]``.
    parts
        Positions of the rows of each regression.
    num_classes
        Number of classes m.
    l2
        Penalty, > 0.
    steps
        Most steps; fewer once the gradients are small.

    Returns
    -------
    tuple of torch.Tensor
        Weights ``[parts, d, m]`` and intercepts ``[parts, m]``, float32.

    References
    ----------
    Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", SIAM J.
    Imaging Sciences 2(1), 2009; restarts of O'Donoghue and Candès, Found. Comput. Math.
    15, 2015.
    """
    x, target, mask, present = _padded(features, labels, parts, num_classes)
    rate = 1.0 / (0.5 * _largest_eigenvalue(x) + l2)[:, None, None]
    shade = torch.where(present, 0.0, -torch.inf)[:, None, :]
    penalty = torch.full((x.shape[2], 1), l2)
    penalty[-1] = 0.0  # the last column of x is 1: the intercept
    w = torch.zeros(len(parts), x.shape[2], num_classes)
    ahead, momentum = w, torch.ones(len(parts), 1, 1)
    goal = _TOLERANCE * max(map(len, parts)) ** 0.5
    for step in range(steps):
        p = torch.softmax(torch.bmm(x, ahead) + shade, dim=2)
        gradient = torch.bmm(x.mT, (p - target) * mask) + penalty * ahead
        new = ahead - rate * gradient
        # Momentum that points uphill is dropped, for each regression on its own.
        uphill = (gradient * (new - w)).sum((1, 2), keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        ahead = new + torch.where(uphill, 0.0, (momentum - 1) / following) * (new - w)
        w, momentum = new, following
        if step % _CHECK_EVERY == 0 and float(gradient.abs().amax()) < goal:
            break
    # An absent class keeps no weight, and an intercept that no feature outweighs.
    w = torch.where(present[:, None, :], w, 0.0)
    intercept = torch.where(present, w[:, -1], torch.finfo(torch.float32).min / 2)
    return w[:, :-1].contiguous(), intercept.contiguous()


def _padded(
    features: Tensor, labels: Tensor, parts: Sequence[NDArray[np.int64]], num_classes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gather rows ``[parts, longest, d + 1]``, one-hot labels, a mask of real rows, and classes seen."""
    longest = max(map(len, parts))
    index = torch.zeros(len(parts), longest, dtype=torch.int64)
    mask = torch.zeros(len(parts), longest, 1)
    for place, part in enumerate(parts):
        index[place, : len(part)] = torch.from_numpy(part)
        mask[place, : len(part)] = 1.0
    x = torch.cat([features[index], torch.ones(len(parts), longest, 1)], 2) * mask
    target = torch.nn.functional.one_hot(labels[index], num_classes).float() * mask
    return x, target, mask, target.sum(1) > 0


def _largest_eigenvalue(x: Tensor) -> Tensor:
    """Return an upper estimate of the largest eigenvalue of each ``x^T x``, ``[parts]``."""
    v = torch.ones(len(x), x.shape[2], 1)
    size = torch.ones(len(x))
    for _ in range(_POWER_STEPS):
        v = torch.bmm(x.mT, torch.bmm(x, v))
        size = v.norm(dim=(1, 2)).clamp_min(1e-12)
        v = v / size[:, None, None]
    return 1.05 * size  # power iteration comes from below
