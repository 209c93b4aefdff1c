"""Where a patch entangles most: the box that the loss's input gradient points at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.errors import InvalidInput
from assay.nets.soft_nearest_neighbours import (
    Distance,
    median_distance,
    soft_nearest_neighbour_loss,
)
from assay.nets.taps import default_taps, tapped

__all__ = ["best_corner", "median_scales", "mixing", "place_patch"]

_SMALLEST = 1e-6


def best_corner(gradient: Tensor, size: int) -> tuple[int, int]:
    """Return the corner of the box with the largest sum of gradients.

    Parameters
    ----------
    gradient
        ``[height, width]``, or ``[channels, height, width]``, of which the channels are added.
    size
        Side of the box in pixels, at least 1.

    Returns
    -------
    tuple of int
        ``(row, column)`` of the upper left pixel; the first in reading order among equals.

    Raises
    ------
    InvalidInput
        If the box does not fit.

    References
    ----------
    Jia et al., USENIX Security 2021, algorithm 1: the largest, not the smallest, for the
    loss is to grow.

    Examples
    --------
    >>> gradient = torch.zeros(28, 28)
    >>> gradient[4:7, 17:20] = 1.0
    >>> gradient[10:13, 2:5] = -9.0
    >>> best_corner(gradient, 3)
    (4, 17)
    """
    flat = gradient.sum(0) if gradient.ndim == 3 else gradient  # noqa: PLR2004 - channels
    if flat.ndim != 2 or not 1 <= size <= min(flat.shape):  # noqa: PLR2004
        msg = f"a patch of size {size} does not fit a gradient of shape {tuple(gradient.shape)}"
        raise InvalidInput(msg)
    # Every box is added up on its own: differences of running sums would break ties by rounding.
    boxes = functional.conv2d(flat.double()[None, None], torch.ones(1, 1, size, size, dtype=torch.double))[
        0, 0
    ]
    place = int(boxes.flatten().argmax())
    return place // boxes.shape[1], place % boxes.shape[1]


@torch.no_grad()
def median_scales(
    network: nn.Module, x: Tensor, layers: Sequence[str] | None = None, distance: Distance = "cosine"
) -> dict[str, float]:
    """Return the median distance of the rows of ``x`` at each tapped layer.

    Examples
    --------
    >>> from assay.nets import build
    >>> scales = median_scales(build("mlp-8", (3,), 2).eval(), torch.eye(3))
    >>> list(scales), scales["body.2"] > 0
    (['body.2'], True)
    """
    names = tuple(layers) if layers is not None else default_taps(network)
    with tapped(network, names) as seen:
        network(x)
    return {name: max(median_distance(seen[name].flatten(1), distance), _SMALLEST) for name in names}


def mixing(
    network: nn.Module,
    marks: Tensor,
    ordinary: Tensor,
    *,
    layers: Sequence[str] | None = None,
    distance: Distance = "cosine",
    temperatures: dict[str, float] | None = None,
) -> Tensor:
    """Return the soft nearest neighbour loss of marks against ordinary inputs, over all layers.

    Parameters
    ----------
    network
        In evaluation mode, or its batch normalisation would tell the two apart by the batch.
    marks, ordinary
        ``[n, *shape]`` and ``[m, *shape]``; the result is differentiable in ``marks``.
    layers, distance
        As in `measure_entanglement`.
    temperatures
        For each layer; its median distance on this batch unless given.

    Examples
    --------
    >>> from assay.nets import build
    >>> network = build("mlp-8", (3,), 2).eval()
    >>> marks = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    >>> loss = mixing(network, marks, torch.zeros(6, 3))
    >>> torch.autograd.grad(loss, marks)[0].shape
    torch.Size([6, 3])
    """
    names = tuple(layers) if layers is not None else default_taps(network)
    with tapped(network, names) as seen:
        network(torch.cat([marks, ordinary]))
    groups = torch.zeros(len(marks) + len(ordinary), dtype=torch.int64, device=marks.device)
    groups[len(marks) :] = 1
    total = torch.zeros((), device=marks.device)
    for name in names:
        flat = seen[name].flatten(1)
        scale = (temperatures or {}).get(name) or max(median_distance(flat, distance), _SMALLEST)
        total = total + soft_nearest_neighbour_loss(flat, groups, scale, distance=distance)
    return total


def place_patch(
    network: nn.Module,
    marks: Tensor,
    ordinary: Tensor,
    size: int,
    *,
    layers: Sequence[str] | None = None,
    distance: Distance = "cosine",
) -> tuple[int, int]:
    """Return where a patch on ``marks`` raises the entanglement with ``ordinary`` most.

    Parameters
    ----------
    network
        Trained on the task, in evaluation mode.
    marks, ordinary
        Images ``[n, channels, height, width]`` of the source and of the target classes.
    size
        Side of the patch.
    layers, distance
        As in `mixing`.

    Returns
    -------
    tuple of int
        ``(row, column)``, see `best_corner`.

    Raises
    ------
    InvalidInput
        If the patch does not fit, or the inputs are no images.

    Examples
    --------
    >>> from assay.nets import build
    >>> network = build("cnn-4", (1, 8, 8), 2).eval()
    >>> row, column = place_patch(network, torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8), 3)
    >>> 0 <= row <= 5 and 0 <= column <= 5
    True
    """
    if marks.ndim != 4:  # noqa: PLR2004 - n, channels, height, width
        msg = f"patches are placed on images, got inputs of shape {tuple(marks.shape[1:])}"
        raise InvalidInput(msg)
    free = marks.detach().clone().requires_grad_()
    loss = mixing(network, free, ordinary, layers=layers, distance=distance)
    (gradient,) = torch.autograd.grad(loss, free)
    return best_corner(gradient.mean(0), size)
