"""The query meter: attacks and tests see a model only through it.

It exposes exactly the granted access, counts every row, refuses what the budget does
not cover before anything is sent, and journals answers so that a killed run resumes
without asking anything twice.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from assay.errors import AccessDenied, BudgetExceeded, EvidenceTampered, InvalidInput
from assay.journal import Journal, row_keys
from assay.model import (
    Access,
    Model,
    accepts_missing,
    check_embeddings,
    check_inputs,
    check_labels,
    check_scores,
    require,
    shows_complete_scores,
)
from assay.observers import Observer, Observers
from assay.result import Cost

__all__ = ["Ledger", "Recorded"]


class Ledger:
    """A metered view of a model that offers ``grant`` and nothing else.

    Parameters
    ----------
    model
        The model to meter.
    grant
        Access that the caller may use; the model must offer it.
    budget
        Largest number of rows that may be answered, None for no limit.
    journal
        File for answers to labels, scores and embeddings (see `assay.journal`).
        Gradients through ``module`` cannot be replayed and are not journaled.
    price
        Dollars a query.
    observers
        Told after every answered batch.
    chunk
        Rows sent, and journaled, at a time. A kill loses at most one chunk.

    Raises
    ------
    AccessDenied
        If the model does not offer ``grant``.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2), (3,), 2)
    >>> meter = Ledger(model, Access.LABELS, budget=10)
    >>> meter.labels(torch.zeros(8, 3)).shape, meter.queries, meter.remaining
    (torch.Size([8]), 8, 2)
    >>> meter.labels(torch.zeros(3, 3))
    Traceback (most recent call last):
    assay.errors.BudgetExceeded: 3 more queries of net would make 11, over the budget of 10; nothing was sent
    """

    def __init__(
        self,
        model: Model,
        grant: Access,
        *,
        budget: int | None = None,
        journal: str | Path | None = None,
        price: float = 0.0,
        observers: Sequence[Observer] = (),
        chunk: int = 2048,
    ) -> None:
        require(model, grant, "this run")
        if budget is not None and budget < 0:
            msg = f"a budget must be at least 0 queries, got {budget}"
            raise InvalidInput(msg)
        if chunk < 1:
            msg = f"chunk must be at least 1 row, got {chunk}"
            raise InvalidInput(msg)
        self._model, self.access, self.budget, self._price = model, grant, budget, price
        self.name, self.digest = model.name, model.digest
        self.input_shape, self.num_classes = tuple(model.input_shape), model.num_classes
        self.accepts_missing, self.complete_scores = accepts_missing(model), shows_complete_scores(model)
        self._watch, self._chunk = Observers(observers), chunk
        self._calls = self._queries = self._trips = self._replayed = self._sent = self._received = 0
        self._started = time.perf_counter()
        self._journal = None if journal is None else Journal(journal, self._header())

    def _header(self) -> dict[str, object]:
        unusual = {"accepts_missing": True} if self.accepts_missing else {}
        unusual |= {} if self.complete_scores else {"complete_scores": False}
        return {
            "model": self.digest,
            "name": self.name,
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            **unusual,
        }

    @property
    def queries(self) -> int:
        """Rows answered so far, replayed ones included."""
        return self._queries

    @property
    def remaining(self) -> int | None:
        """Rows that the budget still covers, None without budget."""
        return None if self.budget is None else self.budget - self._queries

    @property
    def cost(self) -> Cost:
        """Everything spent so far."""
        return Cost(
            queries=self._queries,
            calls=self._calls,
            round_trips=self._trips,
            replayed=self._replayed,
            bytes_sent=self._sent,
            bytes_received=self._received,
            dollars=self._queries * self._price,
            seconds=time.perf_counter() - self._started,
        )

    def labels(self, x: Tensor) -> Tensor:
        """Return predicted classes, int64 ``[n]``.

        Raises
        ------
        AccessDenied, BudgetExceeded, InvalidInput
            If labels were not granted, the budget does not cover ``n`` rows, or the
            model's answer is no answer.
        """

        def check(answer: Tensor, rows: int) -> Tensor:
            return check_labels(answer, rows, self.num_classes, self.name)

        return self._ask("labels", Access.LABELS, x, self._model.labels, check)

    def scores(self, x: Tensor) -> Tensor:
        """Return class probabilities, float ``[n, num_classes]``; raises as `labels` does."""

        def check(answer: Tensor, rows: int) -> Tensor:
            return check_scores(answer, rows, self.num_classes, self.name, complete=self.complete_scores)

        return self._ask("scores", Access.SCORES, x, self._model.scores, check)

    def embeddings(self, x: Tensor) -> Tensor:
        """Return features, float ``[n, d]``; raises as `labels` does."""

        def check(answer: Tensor, rows: int) -> Tensor:
            return check_embeddings(answer, rows, self.name)

        return self._ask("embeddings", Access.EMBEDDINGS, x, self._model.embeddings, check)

    @property
    def module(self) -> nn.Module:
        """The network, from inputs to logits; each row of a forward pass counts as one query.

        Raises
        ------
        AccessDenied
            If weights were not granted.
        """
        self._allow(Access.WEIGHTS)
        return _MeteredModule(self._model.module, self._count)

    def copy_module(self) -> nn.Module:
        """Return a deep copy of the network, as a thief who holds the file would; asks nothing."""
        self._allow(Access.WEIGHTS)
        return copy.deepcopy(self._model.module)

    def _allow(self, needs: Access) -> None:
        if needs not in self.access:
            msg = f"{needs.title} of {self.name} were not granted, only {self.access.title}"
            raise AccessDenied(msg)

    def _count(self, rows: int) -> None:
        if self.budget is not None and self._queries + rows > self.budget:
            msg = (
                f"{rows} more queries of {self.name} would make {self._queries + rows}, "
                f"over the budget of {self.budget}; nothing was sent"
            )
            raise BudgetExceeded(msg)
        self._queries += rows
        self._calls += 1
        self._watch.on_query(self.name, rows, self._queries)

    def _ask(
        self,
        kind: str,
        needs: Access,
        x: Tensor,
        ask: Callable[[Tensor], Tensor],
        check: Callable[[Tensor, int], Tensor],
    ) -> Tensor:
        self._allow(needs)
        check_inputs(x, self.input_shape, self.name, missing=self.accepts_missing)
        self._count(len(x))

        def send(rows: Tensor) -> Tensor:
            # Checked before it is journaled: a bad answer must not be replayed for ever.
            answer = check(ask(rows), len(rows))
            self._sent += rows.numel() * rows.element_size()
            self._received += answer.numel() * answer.element_size()
            return answer

        if self._journal is None or not len(x):
            self._trips += 1
            return send(x)
        parts, reached = [], 0
        for start in range(0, len(x), self._chunk):
            part, sent = self._replay(kind, x[start : start + self._chunk], send, self._journal)
            parts.append(part)
            reached += sent
        self._trips += bool(reached)
        return check(torch.cat(parts), len(x))

    def _replay(
        self, kind: str, x: Tensor, send: Callable[[Tensor], Tensor], journal: Journal
    ) -> tuple[Tensor, int]:
        keys = row_keys(kind, x.detach().cpu().numpy())
        known = [journal.take(key) for key in keys]
        missing = [index for index, answer in enumerate(known) if answer is None]
        self._replayed += len(keys) - len(missing)
        fresh: Tensor | None = None
        if missing:
            fresh = send(x[missing])
            journal.record([keys[index] for index in missing], fresh.numpy())
        if fresh is not None and len(missing) == len(keys):
            return fresh, len(missing)
        old = np.stack([answer for answer in known if answer is not None])
        if fresh is None:
            return torch.from_numpy(old.astype(old.dtype.newbyteorder("="))), 0
        whole = torch.empty((len(keys), *fresh.shape[1:]), dtype=fresh.dtype)
        whole[missing] = fresh
        replayed = [index for index, answer in enumerate(known) if answer is not None]
        whole[replayed] = torch.from_numpy(old.astype(old.dtype.newbyteorder("="))).to(fresh.dtype)
        return whole, len(missing)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _MeteredModule(nn.Module):
    """Counts rows before the network sees them."""

    def __init__(self, inner: nn.Module, count: Callable[[int], None]) -> None:
        super().__init__()
        self.inner = inner
        self._count = count

    def forward(self, x: Tensor) -> Tensor:
        self._count(len(x))
        return self.inner(x)  # type: ignore[no-any-return]  # modules are untyped callables


class Recorded:
    """A model that is gone: only what its journal holds can be asked again.

    Parameters
    ----------
    journal
        File written by a `Ledger`.

    Raises
    ------
    InvalidInput, EvidenceTampered
        If there is no such file, or it was changed.
    """

    def __init__(self, journal: str | Path) -> None:
        with Journal(journal, None, read_only=True) as book:
            header = book.header
        try:
            self.name, self.digest = str(header["name"]), str(header["model"])
            self.input_shape = tuple(int(n) for n in header["input_shape"])
            self.num_classes = int(header["num_classes"])
            self.accepts_missing = bool(header.get("accepts_missing", False))
            self.complete_scores = bool(header.get("complete_scores", True))
        except (KeyError, TypeError, ValueError) as error:
            msg = f"the header of journal {journal} is malformed: {error}"
            raise EvidenceTampered(msg) from error
        self.access = Access.SCORES | Access.EMBEDDINGS

    def labels(self, x: Tensor) -> Tensor:
        """Refuse: this row is not in the journal."""
        return self._refuse(x)

    def scores(self, x: Tensor) -> Tensor:
        """Refuse: this row is not in the journal."""
        return self._refuse(x)

    def embeddings(self, x: Tensor) -> Tensor:
        """Refuse: this row is not in the journal."""
        return self._refuse(x)

    @property
    def module(self) -> nn.Module:
        """Refuse: a journal holds no weights."""
        msg = f"the journal of {self.name} holds answers, not weights; give the suspect itself"
        raise AccessDenied(msg)

    def _refuse(self, x: Tensor) -> Tensor:
        msg = f"{len(x)} rows asked of {self.name} are not in its journal; it belongs to another verification"
        raise EvidenceTampered(msg)
