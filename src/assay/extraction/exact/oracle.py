"""What an exact attack sees of its victim: float64 arrays in and out, and a meter."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from assay.errors import InvalidInput
from assay.extraction.exact.domain import Domain
from assay.ledger import Ledger
from assay.model import Access

__all__ = ["Oracle"]


class Oracle:
    """A metered victim as numpy sees it.

    Every row that is asked passes the `Ledger`, which counts it, enforces the budget
    before anything is sent, and journals it. One call is one round trip, so questions
    that do not depend on each other's answers belong into one call. Inputs are passed
    on as float64; what a float32 network makes of them is its own business.

    Parameters
    ----------
    ledger
        The metered victim.
    domain
        Inputs that it accepts; ``[-1, 1]^d`` if None.
    cache
        Whether a row that was asked before, with the same bits, is answered from memory
        and not counted again. Only for services whose answers do not change.

    Raises
    ------
    InvalidInput
        If the domain has another number of features than the victim.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: np.c_[0.5 - x / 4, 0.5 + x / 4], (1,), outputs="probabilities")
    >>> oracle = Oracle(Ledger(model, Access.SCORES, budget=10), cache=True)
    >>> oracle.scores([[0.0], [1.0], [0.0]]).tolist()
    [[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]
    >>> oracle.queries, oracle.rounds, oracle.remaining
    (2, 1, 8)
    """

    def __init__(self, ledger: Ledger, domain: Domain | None = None, *, cache: bool = False) -> None:
        self._ledger = ledger
        self.size = math.prod(ledger.input_shape)
        self.domain = Domain.box(self.size) if domain is None else domain
        if self.domain.size != self.size:
            msg = f"the domain has {self.domain.size} features, but {ledger.name} takes {self.size}"
            raise InvalidInput(msg)
        self._known: dict[str, dict[bytes, np.ndarray]] | None = {} if cache else None

    @property
    def name(self) -> str:
        """How messages call the victim."""
        return self._ledger.name

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self._ledger.num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input; rows are flat ``[size]`` here."""
        return self._ledger.input_shape

    @property
    def access(self) -> Access:
        """What was granted."""
        return self._ledger.access

    @property
    def accepts_missing(self) -> bool:
        """Whether NaN may stand for a feature that is left out."""
        return self._ledger.accepts_missing

    @property
    def complete_scores(self) -> bool:
        """Whether rows of scores sum to 1; rounded and cut ones need not."""
        return self._ledger.complete_scores

    @property
    def queries(self) -> int:
        """Rows counted so far."""
        return self._ledger.queries

    @property
    def rounds(self) -> int:
        """Calls of the ledger so far, replayed ones included."""
        return self._ledger.cost.calls

    @property
    def remaining(self) -> int | None:
        """Rows that the budget still covers, None without budget."""
        return self._ledger.remaining

    def renewed(self, *, cache: bool) -> Oracle:
        """Return another view of the same metered victim, with or without a memory of its own."""
        return Oracle(self._ledger, self.domain, cache=cache)

    def covers(self, rows: int) -> bool:
        """Return whether the budget covers ``rows`` more rows."""
        return self.remaining is None or rows <= self.remaining

    def scores(self, x: np.ndarray | list[list[float]]) -> np.ndarray:
        """Return class probabilities as the victim sends them, float64 ``[n, num_classes]``.

        Raises
        ------
        AccessDenied, BudgetExceeded, InvalidInput
            As `Ledger.scores` does.
        """
        return self._ask("scores", x, self._ledger.scores, np.float64)

    def labels(self, x: np.ndarray | list[list[float]]) -> np.ndarray:
        """Return predicted classes, int64 ``[n]``; raises as `scores` does."""
        return self._ask("labels", x, self._ledger.labels, np.int64)

    def embeddings(self, x: np.ndarray | list[list[float]]) -> np.ndarray:
        """Return what else the victim shows, float64 ``[n, width]``; raises as `scores` does."""
        return self._ask("embeddings", x, self._ledger.embeddings, np.float64)

    def log_ratios(self, x: np.ndarray | list[list[float]], reference: int = 0) -> np.ndarray:
        """Return ``log p_k - log p_reference`` for the other classes, float64 ``[n, num_classes - 1]``.

        A probability of 0 gives an infinity, two of them NaN: saturation is the
        attack's to see and to avoid.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.log(self.scores(x))
            ratios: np.ndarray = np.delete(z, reference, axis=1) - z[:, [reference]]
        return ratios

    def _ask(
        self,
        kind: str,
        x: np.ndarray | list[list[float]],
        ask: Callable[[Tensor], Tensor],
        dtype: type[np.generic],
    ) -> np.ndarray:
        rows = np.ascontiguousarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.size:  # noqa: PLR2004 - [n, d]
            msg = f"rows for {self.name} must be [n, {self.size}], got {list(rows.shape)}"
            raise InvalidInput(msg)
        if self._known is None:
            return self._send(rows, ask, dtype)
        known = self._known.setdefault(kind, {})
        keys = [row.tobytes() for row in rows]
        fresh = {key: i for i, key in enumerate(keys) if key not in known}
        if not keys:
            return self._send(rows, ask, dtype)
        if fresh:
            answers = self._send(rows[list(fresh.values())], ask, dtype)
            known.update(zip(fresh, answers, strict=True))
        return np.stack([known[key] for key in keys])

    def _send(self, rows: np.ndarray, ask: Callable[[Tensor], Tensor], dtype: type[np.generic]) -> np.ndarray:
        x = torch.from_numpy(rows.copy()).reshape(len(rows), *self.input_shape)
        return ask(x).numpy().astype(dtype)
