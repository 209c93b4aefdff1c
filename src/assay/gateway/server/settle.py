"""Pricing off the request path: what was answered is scored and billed afterwards.

A reservation stands for the price until then, so nothing is lost when this is late, and
nothing about an input can be read from how long its answer took.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput
from assay.gateway.server.estimate import estimate
from assay.gateway.server.replies import Reply, read_reply
from assay.gateway.store.base import Settled, Store, StoreDown
from assay.gateway.upstream.base import Answer

if TYPE_CHECKING:
    from assay.gateway.pricing.rule import Rule
    from assay.gateway.server.tensors import InputTensor
    from assay.leakage.base import Estimator

__all__ = ["Served", "Settler", "Undone", "Watcher", "item_digests"]

_LOG = logging.getLogger("assay.gateway")
_BATCH = 64
_PAUSE = 0.25
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """One answered query, whose price is due.

    Attributes
    ----------
    query_id
        What the store calls it.
    account_id, model
        Who asked what.
    inputs, n_items
        The question.
    answer
        As the server behind the gateway gave it, before any defence.
    log_q
        What each item leaks, if that is known already.
    """

    query_id: str
    account_id: str
    model: str
    inputs: tuple[InputTensor, ...]
    n_items: int
    answer: Answer
    log_q: NDArray[np.float64] | None = None

    @property
    def weight(self) -> int:
        """Bytes that it keeps in memory."""
        return len(self.answer.body) + sum(len(tensor.raw) for tensor in self.inputs)


@dataclass(frozen=True, slots=True)
class Undone:
    """One query that got no answer and could not be given back at once.

    Attributes
    ----------
    query_id
        What the store calls it.
    reason
        For the journal.
    """

    query_id: str
    reason: str

    @property
    def weight(self) -> int:
        """Bytes that it keeps in memory: next to none."""
        return 0


class Watcher(Protocol):
    """Something that looks at settled queries, such as a detector.

    One that has a true attribute ``reads_reply`` gets the answer; others get None unless it
    was read anyway.
    """

    def __call__(
        self, served: Served, reply: Reply | None, settled: Settled, log_q: NDArray[np.float64]
    ) -> None:
        """Look at one."""
        ...


class Settler:
    """A bounded queue and the threads that empty it.

    Parameters
    ----------
    store
        Where bills are written.
    rule
        Makes prices.
    estimator
        Makes log q; without one every item costs what the rule asks for unscored ones.
    watchers
        Called after each settlement; what they raise is logged and changes nothing.
    capacity, max_memory
        Queries and bytes that may wait.
    clock
        Seconds since 1970.
    on_error
        Told the name of each step that failed.
    """

    def __init__(
        self,
        store: Store,
        rule: Rule,
        *,
        estimator: Estimator | None = None,
        watchers: Sequence[Watcher] = (),
        capacity: int = 4096,
        max_memory: int = 256 * 2**20,
        clock: Callable[[], float] = time.time,
        on_error: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._store, self._clock, self._on_error = store, clock, on_error
        self._max_memory = max_memory
        self._lock = threading.Lock()
        self.adopt(rule, estimator, watchers, capacity=capacity)
        self._queue: queue.SimpleQueue[Served | Undone | None] = queue.SimpleQueue()
        self._waiting, self._held = 0, 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settle", daemon=True)
        self._thread.start()

    def adopt(
        self, rule: Rule, estimator: Estimator | None, watchers: Sequence[Watcher], *, capacity: int
    ) -> None:
        """Bill by another rule from the next batch on; see the constructor."""
        with self._lock:
            self._rule, self._estimator, self._watchers = rule, estimator, tuple(watchers)
            self._reads = any(getattr(one, "reads_reply", False) for one in watchers)
            self._reads = self._reads or (estimator is not None and estimator.reads_scores)
            self._capacity = capacity

    @property
    def waiting(self) -> int:
        """Queries that are not settled yet."""
        return self._waiting

    def submit(self, served: Served | Undone) -> bool:
        """Take a query over; False if there is no room, and the caller must bill it itself."""
        weight = served.weight
        with self._lock:
            full = self._waiting >= self._capacity or self._held + weight > self._max_memory
            if full or self._closing.is_set():
                return False
            self._waiting += 1
            self._held += weight
        self._queue.put(served)
        return True

    def close(self, seconds: float = 30.0) -> int:
        """Settle what waits, for so long; return how many reservations are left to the sweeper."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(seconds)
        return self._waiting

    def _run(self) -> None:
        done = False
        while not done:
            batch = [self._queue.get()]
            while len(batch) < _BATCH and batch[-1] is not None:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            done = batch[-1] is None
            undone = [one for one in batch if isinstance(one, Undone)]
            for one in undone:
                self._give_back(one)
                self._forget(one)
            with self._lock:  # an estimator's costs go with the rule that was fitted for them
                rule, estimator = self._rule, self._estimator
            for served in batch:
                if isinstance(served, Served):
                    self._settle(served, rule, *self._measure(served, estimator))
                    self._forget(served)

    def _forget(self, job: Served | Undone) -> None:
        with self._lock:
            self._waiting -= 1
            self._held -= job.weight

    def _measure(
        self, served: Served, estimator: Estimator | None
    ) -> tuple[NDArray[np.float64], Reply | None]:
        reply = self._reply(served)
        if served.log_q is not None:
            return served.log_q, reply
        if estimator is None:
            return np.full(served.n_items, np.nan), reply
        found = estimate(estimator, served.inputs, served.n_items, reply)
        if np.isnan(found).all():
            self._on_error("estimator")
        return found, reply

    def _reply(self, served: Served) -> Reply | None:
        if not self._reads:
            return None
        try:
            return read_reply(served.answer.body, served.answer.header_length)
        except InvalidInput:
            self._on_error("reply")
            return None

    def _settle(self, served: Served, rule: Rule, log_q: NDArray[np.float64], reply: Reply | None) -> None:
        digests = item_digests(served.inputs, served.n_items)
        settled = self._insist(
            served.query_id,
            lambda: self._store.settle(
                served.query_id, rule.settle, log_q=log_q, now=self._clock(), item_digests=digests
            ),
        )
        if settled is not None:
            self._watch(served, reply, settled, log_q)

    def _give_back(self, undone: Undone) -> None:
        self._insist(
            undone.query_id,
            lambda: self._store.refund(undone.query_id, now=self._clock(), reason=undone.reason),
        )

    def _insist(self, query_id: str, write: Callable[[], T]) -> T | None:
        """Write, as soon as the store is there; what cannot be written is left to the sweeper."""
        while True:
            try:
                return write()
            except StoreDown:
                self._on_error("store")
                if self._closing.wait(_PAUSE):
                    return None
            except Exception:  # noqa: BLE001 - one bad query must not stop the billing of all others
                _LOG.exception("query %s could not be settled", query_id)
                self._on_error("settle")
                return None

    def _watch(
        self, served: Served, reply: Reply | None, settled: Settled, log_q: NDArray[np.float64]
    ) -> None:
        for watcher in self._watchers:
            try:
                watcher(served, reply, settled, log_q)
            except Exception:  # noqa: BLE001 - what a plug-in raises must not stop the billing
                _LOG.exception("a watcher failed on query %s", served.query_id)
                self._on_error("watcher")


def item_digests(inputs: Sequence[InputTensor], n_items: int) -> list[bytes]:
    """Return one digest per item over all inputs, by which repeated items are found."""
    if len(inputs) == 1:
        rows = inputs[0].rows()
        if len(rows) == n_items:
            return [hashlib.sha256(row).digest() for row in rows]
    cut = [(tensor.name.encode(), tensor.rows()) for tensor in inputs]
    found: list[bytes] = []
    for index in range(n_items):
        total = hashlib.sha256()
        for name, rows in cut:
            row = rows[index] if len(rows) == n_items else rows[0] + index.to_bytes(8, "big")
            total.update(name + b"\0" + len(row).to_bytes(8, "big") + row)
        found.append(total.digest())
    return found
