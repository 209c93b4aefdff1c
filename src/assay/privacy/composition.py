"""Adding up leakage over queries, and reading an (epsilon, delta) off the total."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.privacy.orders import ORDERS, FloatArray, as_delta, as_orders

__all__ = ["compose", "to_epsilon"]


def compose(rdp: ArrayLike, axis: int = 0) -> FloatArray:
    """Return the Rényi divergence of many answers together: the sum at each order.

    Parameters
    ----------
    rdp
        Divergences of single answers, ``[n, k]`` for ``axis=0``.
    axis
        Which axis counts the answers.

    Examples
    --------
    >>> compose([[0.1, 0.2], [0.3, 0.4]])
    array([0.4, 0.6])
    """
    return np.asarray(np.sum(np.asarray(rdp, dtype=np.float64), axis=axis))


def to_epsilon(
    rdp: ArrayLike, orders: ArrayLike = ORDERS, delta: float = 1e-5, *, tighter: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Convert Rényi divergences to the smallest epsilon at ``delta``, and say at which order.

    Parameters
    ----------
    rdp
        Divergences at each order, ``[..., k]``, not negative.
    orders
        The orders, ``[k]``, above 1.
    delta
        In (0, 1).
    tighter
        Use the conversion of Canonne, Kamath and Steinke instead of Mironov's.

    Returns
    -------
    tuple
        epsilon (not negative) and the order that gives it, both float64 ``[...]``.

    Raises
    ------
    InvalidInput
        If divergences and orders do not fit, or a value is out of range.

    References
    ----------
    Mironov, "Rényi Differential Privacy", CSF 2017, proposition 3. Canonne, Kamath and
    Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020,
    proposition 12.

    Examples
    --------
    >>> from assay.privacy import PUBLISHED_ORDERS, renyi
    >>> epsilon, order = to_epsilon(renyi(-0.7, 10, PUBLISHED_ORDERS), PUBLISHED_ORDERS, 1e-5)
    >>> f"{epsilon:.6f} at order {order:g}"
    '0.688615 at order 35'
    """
    # A gateway asks with the same orders for every query.
    if isinstance(orders, tuple):
        grid, price = _price_known(orders, delta, tighter)
    else:
        grid, price = _price(orders, delta, tighter)
    values = np.asarray(rdp, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] != grid.size:
        msg = f"divergences must have shape [..., {grid.size}], one for each order, got {list(values.shape)}"
        raise InvalidInput(msg)
    if not bool(np.all(values >= 0)):  # also false for NaN
        msg = "Rényi divergences must be numbers of at least 0, no NaN"
        raise InvalidInput(msg)
    total = values + price
    best = np.argmin(total, axis=-1)
    epsilon = np.take_along_axis(total, best[..., None], axis=-1)[..., 0]
    return np.maximum(epsilon, 0.0), grid[best]


def _price(orders: ArrayLike, delta: float, tighter: bool) -> tuple[FloatArray, FloatArray]:  # noqa: FBT001 - cached by place
    """Return the orders, and what each adds to the divergence at this delta."""
    grid, log_delta = as_orders(orders), np.log(as_delta(delta))
    less = grid - 1
    price = -log_delta / less
    if tighter:
        price += np.log(less / grid) - np.log(grid) / less
    for values in (grid, price):
        values.setflags(write=False)
    return grid, price


_price_known = lru_cache(maxsize=64)(_price)
