"""The cube in which network attacks work, whatever the victim's own scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.errors import InvalidInput
from assay.extraction.exact.oracle import Oracle

__all__ = ["UnitBox"]


@dataclass(frozen=True, eq=False)
class UnitBox:
    """``x = centre + half u`` with ``u`` in ``[-1, 1]^d``.

    Parameters
    ----------
    centre, half
        Middle and half width of the domain, float64 ``[d]``.
    flags
        What the domain makes impossible.

    Examples
    --------
    >>> box = UnitBox(np.array([1.0]), np.array([2.0]))
    >>> box.inputs(np.array([[-1.0], [0.5]])).ravel().tolist()
    [-1.0, 2.0]
    """

    centre: np.ndarray
    half: np.ndarray
    flags: tuple[str, ...] = ()

    @classmethod
    def of(cls, oracle: Oracle) -> UnitBox:
        """Return the box of an oracle's domain.

        Raises
        ------
        InvalidInput
            If a feature is categorical: a network's derivative needs a continuous one.
        """
        domain = oracle.domain
        if not domain.continuous.all():
            msg = (
                f"feature {int(np.argmin(domain.continuous))} of {oracle.name} is categorical, and this "
                "attack needs continuous inputs; attack the one-hot encoded model"
            )
            raise InvalidInput(msg)
        return cls(domain.centre, 0.5 * domain.span)

    def inputs(self, u: np.ndarray) -> np.ndarray:
        """Return the victim's inputs for points of the cube."""
        x: np.ndarray = self.centre + self.half * u
        return x
