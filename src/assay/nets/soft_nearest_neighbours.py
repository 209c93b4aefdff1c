"""Soft nearest neighbour loss: how far two groups of representations interleave."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from assay.errors import InvalidInput

__all__ = ["Distance", "median_distance", "pairwise_distances", "plateau", "soft_nearest_neighbour_loss"]

Distance = Literal["cosine", "euclidean"]
_MIN_NORM = 1e-12


class _Gram(torch.autograd.Function):
    """Inner products of all rows, with one product instead of two on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ x.T

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        (slope,) = slopes
        found: Tensor = (slope + slope.T) @ x
        return found


def pairwise_distances(x: Tensor, distance: Distance = "cosine") -> Tensor:
    """Return the distance of every pair of rows, ``[n, n]``, in float32 or wider.

    Parameters
    ----------
    x
        Representations ``[n, ...]``, flattened.
    distance
        ``"cosine"``, 1 minus the cosine, in [0, 2]; a row of zeros is at distance 1 from
        everything. ``"euclidean"`` is squared.

    Examples
    --------
    >>> pairwise_distances(torch.tensor([[0.0], [2.0]]), "euclidean").tolist()
    [[0.0, 4.0], [4.0, 0.0]]
    """
    flat = x.flatten(1)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    # Half precision would round the differences away that the loss is about.
    with torch.autocast(x.device.type, enabled=False):
        gram: Tensor = _Gram.apply(flat)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        square = gram.diagonal()
        if distance == "euclidean":
            return (square[:, None] + square[None, :] - 2 * gram).clamp_min(0)
        # Norms from the diagonal: normalising the rows would cost more than the product.
        scale = square.clamp_min(_MIN_NORM).rsqrt()
        return 1 - gram * scale[:, None] * scale[None, :]


def soft_nearest_neighbour_loss(
    x: Tensor,
    groups: Tensor,
    temperature: Tensor | float,
    *,
    distance: Distance = "cosine",
    blocks: Tensor | None = None,
) -> Tensor:
    """Return the mean of minus the log share of neighbours that are of one's own group.

    Small where the groups are separated; at most about `plateau` where they cannot be
    told apart, and larger where they alternate. Rows without a peer of their own group are
    left out of the mean.

    Parameters
    ----------
    x
        Representations ``[n, ...]``, flattened; float16 and bfloat16 are computed in float32.
    groups
        Group of each row, integers ``[n]``.
    temperature
        Distance over which neighbours count, > 0; a tensor takes part in the gradient.
    distance
        See `pairwise_distances`.
    blocks
        Integers ``[n]``: only rows of the same block are neighbours. All, unless given.

    Returns
    -------
    torch.Tensor
        A scalar, differentiable; 0 where no row has a peer.

    Raises
    ------
    InvalidInput
        If lengths differ or the temperature is not positive.

    References
    ----------
    Frosst, Papernot and Hinton, "Analyzing and Improving Representations with the Soft
    Nearest Neighbor Loss", ICML 2019, section 2. Jia, Choquette-Choo, Chandrasekaran and
    Papernot, "Entangled Watermarks as a Defense against Model Extraction", USENIX Security
    2021, section 4.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
    >>> separate, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    >>> losses = [soft_nearest_neighbour_loss(x, g, 1, distance="euclidean") for g in (separate, mixed)]
    >>> [round(float(loss), 4) for loss in losses]
    [0.5514, 1.5514]
    """
    n = len(x)
    if groups.shape != (n,) or (blocks is not None and blocks.shape != (n,)):
        msg = f"{n} representations need {n} groups (and blocks), got {tuple(groups.shape)}"
        raise InvalidInput(msg)
    if not bool(torch.as_tensor(temperature) > 0):
        msg = f"the temperature of the soft nearest neighbour loss must be positive, got {temperature}"
        raise InvalidInput(msg)
    closeness = -pairwise_distances(x, distance) / temperature
    other = ~torch.eye(n, dtype=torch.bool, device=x.device)
    if blocks is not None:
        other &= blocks[:, None] == blocks[None, :]
    same = other & (groups[:, None] == groups[None, :])
    counted = same.any(1)
    if not bool(counted.any()):
        return closeness.sum() * 0
    closeness, other, same = closeness[counted], other[counted], same[counted]
    # Log-sum-exp, not log(sum + eps): with eps the loss is capped and far rows have no gradient.
    everyone = closeness.masked_fill(~other, -math.inf).logsumexp(1)
    peers = closeness.masked_fill(~same, -math.inf).logsumexp(1)
    return (everyone - peers).mean()


def plateau(sizes: list[int]) -> float:
    """Return the loss of groups of these sizes at an infinite temperature.

    Examples
    --------
    >>> round(plateau([64, 64]), 5)
    0.70105
    """
    n = sum(sizes)
    rows = [(size, math.log((n - 1) / (size - 1))) for size in sizes if size > 1]
    return sum(size * value for size, value in rows) / sum(size for size, _ in rows)


@torch.no_grad()
def median_distance(x: Tensor, distance: Distance = "cosine") -> float:
    """Return the median distance of different rows, the scale at which the loss has a gradient.

    Raises
    ------
    InvalidInput
        If there are fewer than two rows.

    Examples
    --------
    >>> median_distance(torch.tensor([[0.0], [1.0], [3.0]]), "euclidean")
    4.0
    """
    n = len(x)
    if n < 2:  # noqa: PLR2004 - a pair
        msg = "a median distance needs at least two rows"
        raise InvalidInput(msg)
    above = torch.triu_indices(n, n, 1, device=x.device)
    return float(pairwise_distances(x, distance)[above[0], above[1]].median())
