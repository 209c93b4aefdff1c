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
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput
from assay.gateway.server.estimate import estimate
from assay.gateway.server.replies import Reply, read_reply
from assay.gateway.store.base import Bill, Settled, Store, StoreBusy, StoreDown
from assay.gateway.upstream.base import Answer

if TYPE_CHECKING:
    from assay.gateway.pricing.rule import Rule
    from assay.gateway.server.tensors import InputTensor
    from assay.gateway.server.turns import Turns
    from assay.leakage.base import Estimator

__all__ = ["Served", "Settler", "Undone", "Watcher", "item_digests"]

_LOG = logging.getLogger("assay.gateway")
_BATCH = 64
_PAUSE = 0.25
# Prices are late on purpose anyway. A moment's wait lets several queries share one transaction,
# until so many wait; and no transaction is so long that an admission would feel it much.
_LINGER = 0.25
_ENOUGH = 16
_TOGETHER = 8
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
        self._queue: queue.SimpleQueue[Served | Undone | Future[None] | None] = queue.SimpleQueue()
        self._waiting, self._held = 0, 0
        self._closing, self._enough = threading.Event(), threading.Event()
        self._turns: Turns | None = None
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

    def take_turns(self, turns: Turns) -> None:
        """Write on an event loop, as long as the store can be had there at once."""
        self._turns = turns

    def catch_up(self) -> Future[None]:
        """Settle what waits without lingering for company; done when that is written."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # nobody can take it back from the queue
        self._queue.put(done)
        self._enough.set()
        return done

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
        if self._waiting >= _ENOUGH or (isinstance(served, Served) and served.n_items >= _ENOUGH):
            self._enough.set()
        return True

    def close(self, seconds: float = 30.0) -> int:
        """Settle what waits, for so long; return how many reservations are left to the sweeper."""
        self._closing.set()
        self._enough.set()
        self._queue.put(None)
        self._thread.join(seconds)
        return self._waiting

    def _run(self) -> None:
        done = False
        while not done:
            batch = [self._queue.get()]
            if batch[-1] is not None:
                self._enough.wait(_LINGER)
                if not self._closing.is_set():
                    self._enough.clear()
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
            answered = [one for one in batch if isinstance(one, Served)]
            for begin in range(0, len(answered), _TOGETHER):
                some = answered[begin : begin + _TOGETHER]
                self._settle(some, rule, [self._measure(served, estimator) for served in some])
                for served in some:
                    self._forget(served)
            if answered:
                with suppress(StoreDown):
                    self._store.relieve()
            for caught_up in batch:
                if isinstance(caught_up, Future):
                    caught_up.set_result(None)

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

    def _settle(
        self, some: Sequence[Served], rule: Rule, found: Sequence[tuple[NDArray[np.float64], Reply | None]]
    ) -> None:
        bills = [
            Bill(one.query_id, log_q, item_digests(one.inputs, one.n_items), one.account_id)
            for one, (log_q, _) in zip(some, found, strict=True)
        ]
        volume = rule.policy.pricing.volume
        try:
            done = self._write(
                partial(self._store.settle_all, bills, rule.settle, now=self._clock(), volume=volume)
            )
        except Exception:  # noqa: BLE001 - one by one, so that what is wrong with one holds up no other
            done = [self._settle_one(bill, rule) for bill in bills]
        for served, (log_q, reply), settled in zip(some, found, done, strict=True):
            if settled is not None:
                self._watch(served, reply, settled, log_q)

    def _write(self, write: Callable[..., Sequence[Settled | None]]) -> Sequence[Settled | None]:
        if self._turns is not None and self._store.at_once:
            with suppress(StoreBusy, TimeoutError):
                return self._turns.run(lambda: write(wait=False))
        return write()

    def _settle_one(self, bill: Bill, rule: Rule) -> Settled | None:
        settled = self._insist(
            bill.query_id,
            lambda: self._store.settle_all(
                [bill], rule.settle, now=self._clock(), volume=rule.policy.pricing.volume
            ),
        )
        return None if settled is None else settled[0]

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
