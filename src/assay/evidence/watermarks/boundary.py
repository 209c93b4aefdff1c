"""Moving inputs to a network's decision boundary, where two classes are plausible."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.nets import predict

__all__ = ["to_boundary"]


def to_boundary(
    network: nn.Module, x: Tensor, low: Tensor, high: Tensor, *, reach: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Move inputs towards their second class, by sign-gradient steps, until the network answers it.

    Parameters
    ----------
    network
        From inputs to logits, in evaluation mode.
    x
        Inputs, float32 ``[n, *shape]``.
    low, high
        Smallest and largest value of each coordinate, ``[1, *shape]``.
    reach
        Largest shift of a coordinate, as a share of ``high - low``. Inputs that do not
        cross within it stay where they stopped.
    steps
        Steps to get there; more stop closer to the boundary.

    Returns
    -------
    tuple of Tensor
        The moved inputs, and the classes on both sides, first and second one of ``x``, int64
        ``[n, 2]``.

    References
    ----------
    Le Merrer, Perez and Trédan 2020, section 3, from Goodfellow, Shlens and Szegedy 2015.

    Examples
    --------
    >>> network = nn.Linear(1, 2, bias=False).eval()
    >>> _ = network.weight.data.copy_(torch.tensor([[-1.0], [1.0]]))
    >>> side = torch.ones(1, 1)
    >>> moved, sides = to_boundary(network, torch.tensor([[-0.25]]), -side, side, reach=0.5, steps=10)
    >>> round(float(moved), 3), sides.tolist()
    (0.05, [[0, 1]])
    """
    sides = predict(network, x).topk(2, dim=1).indices
    step = reach / steps * (high - low)
    here = x.clone()
    for _ in range(steps):
        now = here.clone().requires_grad_()
        logits = network(now)
        gap = logits.gather(1, sides[:, 1:]) - logits.gather(1, sides[:, :1])
        (slope,) = torch.autograd.grad(gap.sum(), now)
        before = (gap.detach() < 0).reshape(-1, *[1] * (x.ndim - 1))
        here = torch.where(before, (here + step * slope.sign()).clamp(low, high), here)
    return here.detach(), sides
