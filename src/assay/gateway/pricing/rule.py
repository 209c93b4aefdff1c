"""What a pricing rule is: pure functions of an account's state and of log flip probabilities.

The order of a request in lagged timing, which no rule may break: the account pays what
it owes plus a reservation for the items at hand, the items are answered, the estimator
scores them off the request path, and `Rule.settle` replaces the reservation by the price.
So no model runs before payment, and no price depends on the input that it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import InvalidInput
from assay.gateway.account import AccountState

if TYPE_CHECKING:
    from assay.gateway.policy import Policy

__all__ = ["BoolArray", "FloatArray", "Rule", "Settlement", "as_items"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one request of n items cost.

    Parameters
    ----------
    units
        Price per item, multiplier and tier included, float64 ``[n]``.
    multiplier
        Multiplier of the account at each item, float64 ``[n]``, at least 1.
    flags
        Things an operator should see: ``"alarm"`` (the cumulative sum crossed its threshold
        within this request), ``"duplicates"``, ``"unscored"`` (priced without the estimator).
    billed
        Units that this settlement charges to the account: prices are added up first and
        billed every few items, so this is 0 or more than `total`. A store that keeps the
        account's ``pending`` charges this; one that does not charges `total`.
    """

    units: FloatArray
    multiplier: FloatArray
    flags: tuple[str, ...] = ()
    billed: float = 0.0

    @property
    def total(self) -> float:
        """Units of the whole request."""
        return float(self.units.sum())


@runtime_checkable
class Rule(Protocol):
    """A pricing rule, made from one policy and free of state of its own."""

    @property
    def name(self) -> str:
        """``"additive"`` or ``"paper"``."""
        ...

    @property
    def policy(self) -> Policy:
        """The policy that it was made from."""
        ...

    def settle(
        self, state: AccountState, log_q: ArrayLike, duplicates: ArrayLike | None = None
    ) -> tuple[AccountState, Settlement]:
        """Price answered items and charge the account.

        Parameters
        ----------
        state
            The account as it is now; its reservation is the caller's to let go.
        log_q
            Log flip probability per item in order, ``[n]``, at most 0; NaN where the
            estimator gave none.
        duplicates
            True where the item repeats one that this account was already answered, ``[n]``.
        """
        ...

    def quote(self, state: AccountState, log_q: ArrayLike, duplicates: ArrayLike | None = None) -> Settlement:
        """Price items without charging them (exact timing)."""
        ...

    def reserve(self, state: AccountState, n_items: int) -> float:
        """Units to hold for items that are not scored yet."""
        ...

    def due(self, state: AccountState, n_items: int, quoted: float | None = None) -> float:
        """Units of work to deliver before ``n_items`` more are answered; 0 if none.

        ``quoted`` replaces the reservation when the price is already known (exact timing).
        """
        ...

    def deposit_due(self, state: AccountState) -> float:
        """Units that a new identity must deposit first; 0 for a known one."""
        ...

    def accept(self, state: AccountState, units: float, *, deposit: bool = False) -> AccountState:
        """Book delivered work: deposit first if the puzzle asked for one, then debt, then credit."""
        ...

    def fits(self, state: AccountState, n_items: int) -> bool:
        """Whether the reservation still fits under the cap on unsettled work."""
        ...


def as_items(log_q: ArrayLike, duplicates: ArrayLike | None) -> tuple[FloatArray, BoolArray]:
    """Check the items of a settlement.

    Raises
    ------
    InvalidInput
        On other shapes than ``[n]``, or a log q above 0.

    Examples
    --------
    >>> as_items([-1.0, float("nan")], None)
    (array([-1., nan]), array([False, False]))
    """
    values = np.asarray(log_q, dtype=np.float64)
    repeats = np.zeros(values.shape, dtype=bool) if duplicates is None else np.asarray(duplicates)
    if values.ndim != 1 or repeats.shape != values.shape or repeats.dtype != np.bool_:
        msg = (
            "log q and duplicates must be one number and one boolean per item, shapes [n] and [n]; "
            f"got {list(values.shape)} and {list(repeats.shape)} of {repeats.dtype}"
        )
        raise InvalidInput(msg)
    # Most requests have one item, and an array of one is slow to ask.
    if values.item() > 0.0 if values.size == 1 else bool(np.any(values > 0.0)):
        msg = f"log q is the logarithm of a probability, at most 0; got {np.nanmax(values)}"
        raise InvalidInput(msg)
    return values, repeats
