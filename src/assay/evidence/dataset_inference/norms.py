"""The three norms in which distances to the decision boundary are measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from assay.errors import InvalidInput

__all__ = ["NORMS", "check_classes", "check_norms", "check_points", "distances"]

#: Order of the last axis of every embedding.
NORMS = ("linf", "l2", "l1")


def distances(moves: Tensor, norms: Sequence[str] = NORMS) -> Tensor:
    """Return the norms of each row of ``moves``.

    Parameters
    ----------
    moves
        Perturbations ``[n, ...]``; everything behind the first axis is one vector.
    norms
        Names from `NORMS`.

    Returns
    -------
    Tensor
        float32 ``[n, len(norms)]``. Sums run in float64, so that a row's distance does
        not depend on the rows beside it.

    Examples
    --------
    >>> distances(torch.tensor([[3.0, -4.0]]))
    tensor([[4., 5., 7.]])
    """
    flat = moves.flatten(1)
    # The largest needs no sum: it is exact as it is, and ten times faster than a norm in float64.
    orders = {"l2": 2, "l1": 1}
    columns = [
        flat.abs().amax(1).double()
        if norm == "linf"
        else torch.linalg.vector_norm(flat, orders[norm], dim=1, dtype=torch.float64)
        for norm in norms
    ]
    return torch.stack(columns, dim=1).float()


def check_norms(norms: Sequence[str], scales: Sequence[float], what: str) -> None:
    """Raise `InvalidInput` unless norms are known, in canonical order, and scales positive."""
    if not norms or tuple(norms) != tuple(n for n in NORMS if n in norms):
        msg = f"{what} must be some of {', '.join(NORMS)}, each once and in that order, got {tuple(norms)}"
        raise InvalidInput(msg)
    if len(scales) != len(NORMS) or not all(math.isfinite(s) and s > 0 for s in scales):
        msg = f"one positive step size for each of {', '.join(NORMS)} is needed, got {tuple(scales)}"
        raise InvalidInput(msg)


def check_points(x: Tensor, y: Tensor, value_range: tuple[float, float]) -> float:
    """Check labelled points and return the width of their value range.

    Raises
    ------
    InvalidInput
        For anything but float32 ``[n, *shape]`` inside a finite range with int64 labels ``[n]``.

    Examples
    --------
    >>> check_points(torch.zeros(2, 3), torch.tensor([0, 1]), (-1.0, 1.0))
    2.0
    """
    low, high = value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        msg = (
            f"distances need a finite value range (low, high), got {value_range}; "
            "state the range of the data, or scale its columns to [0, 1]"
        )
        raise InvalidInput(msg)
    if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.ndim < 2:  # noqa: PLR2004 - [n, *shape]
        msg = f"points must be a float32 tensor [n, *shape], got {_kind(x)}"
        raise InvalidInput(msg)
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != x.shape[:1]:
        msg = f"labels must be an int64 tensor [{len(x)}], got {_kind(y)}"
        raise InvalidInput(msg)
    if len(x) and not (float(x.min()) >= low and float(x.max()) <= high):  # NaN fails as well
        msg = f"points leave the value range [{low:g}, {high:g}] or are not finite; clip or rescale them"
        raise InvalidInput(msg)
    return high - low


def check_classes(y: Tensor, num_classes: int) -> None:
    """Raise `InvalidInput` unless all labels are classes of the model."""
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < num_classes:
        msg = f"labels must lie in 0 .. {num_classes - 1}, got {int(y.min())} .. {int(y.max())}"
        raise InvalidInput(msg)


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
