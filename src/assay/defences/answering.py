"""Defences that change answers as arrays, so that a gateway and a dressed model share them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput
from assay.model import Model, require

__all__ = ["Answering", "Asked", "FloatArray", "keep_top", "secret_bytes"]

FloatArray = NDArray[np.float64]
_SHORTEST_SECRET = 16
# Others are held this far below the class that has to stay on top: visible in float32 as well.
_JUST_BELOW = 1 - 1e-4


@dataclass(frozen=True)
class Asked:
    """Who asked what: all that a defence may look at beside the scores.

    Parameters
    ----------
    rows
        The inputs, float ``[n, d]``, flattened. Width 0 where inputs are no numbers;
        then ``names`` must be given.
    account
        Who asks.
    coverage
        Share of the input space that the account has asked in so far, 0 to 1.
    names
        One byte string an input, which stands for it; its own bytes unless given.

    Examples
    --------
    >>> asked = Asked(np.array([[1.0, -0.0], [1.0, 0.0]]))
    >>> len(asked.fingerprints), asked.fingerprints[0] == asked.fingerprints[1]
    (2, True)
    """

    rows: NDArray[np.floating]
    account: str = ""
    coverage: float = 0.0
    names: tuple[bytes, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.rows.ndim != 2:  # noqa: PLR2004 - rows and columns
            msg = f"rows must be flattened to [n, d], got shape {self.rows.shape}"
            raise InvalidInput(msg)
        if self.names is not None and len(self.names) != len(self.rows):
            msg = f"{len(self.rows)} rows came with {len(self.names)} names"
            raise InvalidInput(msg)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def fingerprints(self) -> tuple[bytes, ...]:
        """One byte string of 32 bytes an input; equal inputs have equal ones."""
        if self.names is not None:
            return tuple(hashlib.sha256(name).digest() for name in self.names)
        # Adding 0.0 makes one of the two zeros, which are equal inputs with different bits.
        rows = np.ascontiguousarray(self.rows, dtype=np.float64) + 0.0
        return tuple(hashlib.sha256(row.tobytes()).digest() for row in rows)


class Answering(Defence):
    """Base of defences that turn scores into other scores; subclasses write `answer`.

    Attributes
    ----------
    keeps_label
        Whether the class of the largest score always stays that of the true scores.
    complete
        Whether rows sum to 1 afterwards.
    """

    keeps_label: ClassVar[bool] = False
    complete: ClassVar[bool] = True

    @abstractmethod
    def answer(self, scores: FloatArray, asked: Asked) -> FloatArray:
        """Return the scores that are shown.

        Parameters
        ----------
        scores
            float64 ``[n, k]``, at least 0, rows that sum to 1.
        asked
            The inputs and who asked, ``n`` rows.

        Returns
        -------
        numpy.ndarray
            float64 ``[n, k]``; the argument is left as it is.
        """

    def ready(self) -> None:
        """Refuse to serve while something is missing, such as a secret.

        Raises
        ------
        InvalidInput
            If something is missing.
        """

    def coverage(self) -> Callable[[FloatArray], float] | None:
        """Return a meter of what one caller has asked for, where this defence needs one."""
        return None

    def wear(self, model: Model) -> Dressed:
        """Return ``model`` as one account sees it."""
        require(model, self.needs, f"the defence {self.name}")
        self.ready()
        return _Answered(model, self)


class _Answered(Dressed):
    def __init__(self, model: Model, how: Answering) -> None:
        super().__init__(model, how, complete=how.complete)
        self._how, self._meter = how, how.coverage()

    def _scores(self, x: Tensor) -> np.ndarray:
        rows = x.double().reshape(len(x), -1).numpy()
        coverage = self._meter(rows) if self._meter else 0.0
        # An account of its own that no secret names: one dressed model is one caller.
        return self._how.answer(self._plain(x), Asked(rows, getattr(self._how, "account", ""), coverage))


def keep_top(shown: FloatArray, true: FloatArray) -> FloatArray:
    """Return rows in which the class that is largest in ``true`` is strictly the largest again.

    Larger scores of other classes are cut down to just below it; rows are divided by
    their sum where anything was cut.

    Parameters
    ----------
    shown, true
        float64 ``[n, k]``.

    Examples
    --------
    >>> keep_top(np.array([[0.2, 0.8]]), np.array([[0.9, 0.1]])).round(3).tolist()
    [[0.5, 0.5]]
    """
    label = true.argmax(axis=1)[:, None]
    top = np.take_along_axis(shown, label, axis=1)
    cut = np.minimum(shown, top * _JUST_BELOW)
    np.put_along_axis(cut, label, top, axis=1)
    total = cut.sum(axis=1, keepdims=True)
    changed = (cut != shown).any(axis=1, keepdims=True) & (total > 0)
    return np.where(changed, cut / np.where(total > 0, total, 1.0), shown)


def secret_bytes(key: str, who: str) -> bytes:
    """Return a secret that was written as hex digits.

    Raises
    ------
    InvalidInput
        If it is missing, shorter than 16 bytes, or not hex.

    Examples
    --------
    >>> len(secret_bytes("00" * 32, "an example"))
    32
    """
    try:
        secret = bytes.fromhex(key)
    except ValueError:
        secret = b""
    if len(secret) < _SHORTEST_SECRET:
        msg = f"{who} needs a secret: set its key to at least {2 * _SHORTEST_SECRET} hex digits"
        raise InvalidInput(msg)
    return secret
