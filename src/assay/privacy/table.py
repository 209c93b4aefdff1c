"""Look-up tables: what a query leaks, from its log q, at a million queries a second."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.privacy.composition import to_epsilon
from assay.privacy.gnmax import renyi
from assay.privacy.orders import ORDERS, FloatArray, as_delta, as_log_q, as_orders, as_sigma

__all__ = ["LOWEST", "POINTS", "EpsilonTable", "RenyiTable"]

POINTS = 20_001
LOWEST = -700.0
"""The smallest log q that is told apart: a unanimous vote has -158 at sigma = T/25, -630 at T/50."""

_NEAREST = -1e-3  # 1 - 1/m of a thousand classes
_LEAST_POINTS = 2


class _Table(ABC):
    """Values of a non-decreasing function of log q on points evenly spaced in log(-log q)."""

    def __init__(self, sigma: float, points: int, lowest: float) -> None:
        if points < _LEAST_POINTS:
            msg = f"a table needs at least 2 points, got {points}"
            raise InvalidInput(msg)
        if not -np.inf < lowest < 2 * _NEAREST:
            msg = f"the lowest log q of a table must be finite and below {2 * _NEAREST}, got {lowest}"
            raise InvalidInput(msg)
        self.sigma = as_sigma(sigma)
        # Near 0 only the data-independent bound holds, and the table has nothing to tell apart.
        high = max(lowest, -np.exp(self._takeover()))
        self._first, last = np.log(-high), np.log(-lowest)
        self._scale = (points - 1) / (last - self._first) if last > self._first else 0.0
        grid = -np.exp(np.linspace(self._first, last, points))
        self._values = self._direct(grid)
        self._steps = np.diff(self._values, axis=0, append=self._values[-1:])
        # Nearer to 0 than the grid the function is constant; a query there must not be priced as the
        # first point, which may already lie below a jump.
        self._ceiling = self._direct(np.array([_NEAREST]))[0]

    def _takeover(self) -> float:
        """Return log(-log q) of the first point at which the data-dependent bound is the smaller one."""
        fine = np.linspace(np.log(-_NEAREST), np.log(-LOWEST), 4096)
        values = self._direct(-np.exp(fine))
        flat = np.all(values.reshape(len(fine), -1) == values.reshape(len(fine), -1)[:1], axis=1)
        return float(fine[max(int(np.argmin(flat)) - 1, 0)]) if not flat.all() else float(fine[0])

    @abstractmethod
    def _direct(self, log_q: FloatArray) -> FloatArray:
        """Return what the table stores for these log q, ``[n]`` or ``[n, k]``."""

    def _look_up_one(self, log_q: float) -> FloatArray:
        place = (math.log(-log_q) - self._first) * self._scale if log_q < 0.0 else -1.0
        if place < 0.0:
            return np.array(self._ceiling)
        place = min(place, len(self._values) - 1.0)
        index = int(place)
        return np.asarray(self._values[index] + (place - index) * self._steps[index])

    def _look_up(self, log_q: ArrayLike) -> FloatArray:
        values = as_log_q(log_q)
        if values.size == 1:  # what a gateway settles most of the time; ten times faster
            return np.reshape(self._look_up_one(values.item()), values.shape + self._values.shape[1:])
        flat = np.ravel(values)
        with np.errstate(divide="ignore"):  # log q = 0 lies before the first point
            place = (np.log(-flat) - self._first) * self._scale
        before = place < 0
        place = np.clip(place, 0.0, len(self._values) - 1)
        index = place.astype(np.int64)
        share = place - index
        if self._values.ndim > 1:
            share = share[:, None]
        found = self._values[index] + share * self._steps[index]
        found[before] = self._ceiling
        return np.asarray(found.reshape(values.shape + self._values.shape[1:]))


class EpsilonTable(_Table):
    """epsilon of single queries at one delta, from their log q.

    Parameters
    ----------
    sigma
        Standard deviation of the noise on votes, > 0.
    delta
        In (0, 1).
    orders
        Rényi orders, ``[k]``.
    tighter
        Which conversion; see `to_epsilon`.
    points, lowest
        Size of the table and the smallest log q that it tells apart; queries below it
        are charged as if they had it.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    Examples
    --------
    >>> EpsilonTable(10, 1e-5)([-0.7, -33.2, -157.8]).round(3)
    array([0.689, 0.426, 0.188])
    """

    def __init__(
        self,
        sigma: float,
        delta: float,
        *,
        orders: ArrayLike = ORDERS,
        tighter: bool = False,
        points: int = POINTS,
        lowest: float = LOWEST,
    ) -> None:
        self.delta, self.tighter = as_delta(delta), tighter
        self.orders = as_orders(orders)
        super().__init__(sigma, points, lowest)

    def __call__(self, log_q: ArrayLike) -> FloatArray:
        """Return epsilon for each log q, in the shape of ``log_q``; raise `InvalidInput` above 0."""
        return self._look_up(log_q)

    def _direct(self, log_q: FloatArray) -> FloatArray:
        rdp = renyi(log_q, self.sigma, self.orders)
        return to_epsilon(rdp, self.orders, self.delta, tighter=self.tighter)[0]


class RenyiTable(_Table):
    """Rényi divergence of single queries at one or a few orders, from their log q.

    Interpolates the logarithm, so that a unanimous vote at 1e-60 keeps its size.

    Parameters
    ----------
    sigma
        Standard deviation of the noise on votes, > 0.
    order
        One order above 1, or several ``[k]``.
    points, lowest
        Size of the table and the smallest log q that it tells apart; queries below it
        are charged as if they had it.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    Examples
    --------
    >>> RenyiTable(2, 4)([-0.7, -157.8]).round(3)
    array([1., 0.])
    >>> RenyiTable(2, [2, 4])([-0.7]).shape
    (1, 2)
    """

    def __init__(
        self, sigma: float, order: ArrayLike, *, points: int = POINTS, lowest: float = LOWEST
    ) -> None:
        self.orders = as_orders(order)
        self._single = np.ndim(order) == 0
        super().__init__(sigma, points, lowest)

    def __call__(self, log_q: ArrayLike) -> FloatArray:
        """Return divergences ``[...]``, or ``[..., k]`` for several orders; raise `InvalidInput` above 0."""
        return np.exp(self._look_up(log_q))

    def one(self, log_q: float) -> FloatArray:
        """Return the divergence of one query, ``[]`` or ``[k]``; nothing is checked, 0 or above costs most.

        Examples
        --------
        >>> RenyiTable(2, [2, 4]).one(-0.7).round(3)
        array([0.5, 1. ])
        """
        return np.exp(self._look_up_one(log_q))

    def _direct(self, log_q: FloatArray) -> FloatArray:
        # The smallest positive number stands for 0, whose logarithm cannot be interpolated.
        values = np.log(np.maximum(renyi(log_q, self.sigma, self.orders), np.finfo(np.float64).tiny))
        return values[:, 0] if self._single else values
