"""Inputs moved against a network: steps along the sign of the gradient within a box."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.data.dataset import Dataset

__all__ = ["limits", "move"]

_BATCH = 128


def limits(data: Dataset) -> tuple[float, float]:
    """Return the smallest and largest value that inputs may take."""
    low, high = data.value_range
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    return float(data.x.min()), float(data.x.max())


def move(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step: float,
    steps: int,
    box: tuple[float, float],
    towards: bool = False,
) -> Tensor:
    """Return inputs within ``epsilon`` of ``x`` that raise (or lower) the loss of ``labels``.

    Parameters
    ----------
    network
        In evaluation mode; its weights collect no gradient.
    x, labels
        Inputs ``[n, *shape]`` and classes, int64 ``[n]``.
    epsilon, step, steps
        Largest change of a coordinate, change a step, and number of steps; one step of
        ``epsilon`` is FGSM, several are PGD without a random start.
    box
        Range that inputs stay in.
    towards
        Lower the loss instead: move towards the labels.

    References
    ----------
    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.

    Examples
    --------
    >>> network = nn.Linear(2, 2).eval()
    >>> x = torch.full((1, 2), 0.5)
    >>> y = torch.zeros(1, dtype=torch.int64)
    >>> moved = move(network, x, y, epsilon=0.1, step=0.1, steps=1, box=(0.0, 1.0))
    >>> bool(((moved - x).abs() <= 0.1 + 1e-6).all())
    True
    """
    device = next(network.parameters()).device
    sign = -1.0 if towards else 1.0
    parts = []
    for start in range(0, len(x), _BATCH):
        origin = x[start : start + _BATCH].to(device)
        wanted = labels[start : start + _BATCH].to(device)
        low, high = (origin - epsilon).clamp_min(box[0]), (origin + epsilon).clamp_max(box[1])
        moved = origin.clone()
        for _ in range(steps):
            moved.requires_grad_()
            loss = functional.cross_entropy(network(moved).float(), wanted, reduction="sum")
            (slope,) = torch.autograd.grad(loss, moved)
            stepped = moved.detach() + sign * step * slope.sign()
            moved = torch.minimum(torch.maximum(stepped, low), high)
        parts.append(moved.detach().cpu())
    return torch.cat(parts) if parts else x.clone()
