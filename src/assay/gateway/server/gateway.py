"""The parts of one gateway process, put together once and shared by all its endpoints."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from assay.gateway.admission import request_terms
from assay.gateway.keys import Clock
from assay.gateway.pricing import open_rule
from assay.gateway.server.body import BodyReader
from assay.gateway.server.gate import Asked, Caller, Gate
from assay.gateway.server.meter import Meter
from assay.gateway.server.problems import OverBudget, PaymentRequired, Unavailable
from assay.gateway.server.settle import Settler, Undone, Watcher
from assay.gateway.store.base import StoreDown

if TYPE_CHECKING:
    from assay.gateway.account import AccountState
    from assay.gateway.answers import Answers
    from assay.gateway.detectors.watch import Watch
    from assay.gateway.keys import KeyRing
    from assay.gateway.policy import Policy
    from assay.gateway.store.base import Store
    from assay.gateway.upstream.base import Upstream
    from assay.leakage.base import Estimator
    from assay.puzzles.claims import Claims, Purpose

__all__ = ["Gateway"]

_LOG = logging.getLogger("assay.gateway")
_STORE_THREADS = 4
_SWEEP_SECONDS = 60.0
T = TypeVar("T")


class Gateway:
    """Everything that a gateway process consists of, but HTTP.

    Parameters
    ----------
    policy
        In force.
    upstream
        Where answers come from.
    store
        Accounts, claims and bills; shared by all replicas. Closed with the gateway.
    keys
        Signing keys; the same for all replicas.
    estimator
        What a query leaks; without one every item costs a flat price.
    answers
        Output defences.
    watchers
        Look at settled queries.
    meter
        Counts what happens.
    honoured
        Policy versions whose challenges are still good.
    watch
        Detectors, from which some defences learn how much an account has seen.
    clock
        Never runs back.
    """

    def __init__(
        self,
        policy: Policy,
        upstream: Upstream,
        store: Store,
        keys: KeyRing,
        *,
        estimator: Estimator | None = None,
        answers: Answers | None = None,
        watchers: Sequence[Watcher] = (),
        meter: Meter | None = None,
        honoured: frozenset[int] = frozenset(),
        watch: Watch | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.policy, self.upstream, self.store, self.keys = policy, upstream, store, keys
        self.answers = answers or None
        self.meter = meter or Meter()
        self.watch = watch or None
        self.clock = clock = clock or Clock()
        self.rule = open_rule(policy)
        self.gate = Gate(policy, request_terms(policy, self.rule), keys, clock, honoured)
        limits = policy.limits
        self.reader = BodyReader(limits.max_bytes, limits.request_seconds)
        self.settler = Settler(
            store,
            self.rule,
            estimator=estimator,
            watchers=watchers,
            capacity=limits.settle_queue,
            clock=clock,
            on_error=self.meter.failed,
        )
        self._pool = ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="store")
        self._pending, self._under_way, self._checking = 0, 0, 0
        # One at a time: each memory-hard try takes megabytes.
        self._verifier = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._busy: Counter[str] = Counter()
        self._issued, self._refilled = limits.challenges_hz, time.monotonic()
        self._sweeper: asyncio.Task[None] | None = None
        self.draining = False

    # --- life -------------------------------------------------------------------------------
    async def start(self) -> None:
        """Connect, and begin to sweep."""
        await self.upstream.start()
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Finish what was begun: all bills are written before the store closes."""
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self.upstream.close()
        left = await asyncio.to_thread(self.settler.close)
        if left:
            _LOG.warning("%d queries stay reserved; the sweeper bills them", left)
        for pool in (self._verifier, self._pool):
            await asyncio.to_thread(pool.shutdown)
        await asyncio.to_thread(self.store.close)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self.stored(self.store.sweep, self.clock())
            except Unavailable:
                continue

    # --- what endpoints share ------------------------------------------------------------------
    async def stored(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run one transaction beside the event loop.

        Raises
        ------
        Unavailable
            If the store does not answer, or too many wait for it: nothing is served then.
        """
        if self._pending >= self.policy.limits.verify_queue:
            self.meter.failed("pool")
            msg = "too many requests wait for the store; try again soon"
            raise Unavailable(msg, reason="pool")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **kwargs))
        except StoreDown as error:
            self.meter.failed("store")
            msg = "the gateway's books are not available, so nothing is served; try again soon"
            raise Unavailable(msg, reason="store", retry_after=2) from error
        finally:
            self._pending -= 1

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the places of this process while a request is worked on."""
        if self.draining:
            msg = "the gateway is shutting down; ask another replica"
            raise Unavailable(msg, reason="draining")
        if self._under_way >= self.policy.limits.concurrency:
            msg = f"{self._under_way} requests are being answered already; try again soon"
            raise Unavailable(msg, reason="concurrency")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    @contextmanager
    def account_slot(self, account_id: str) -> Iterator[None]:
        """Hold one of the places of an account."""
        allowed = self.policy.limits.account_concurrency
        if self._busy[account_id] >= allowed:
            msg = f"the account has {allowed} requests under way; wait for their answers"
            raise OverBudget(msg, reason="concurrency", headers={"Retry-After": "1"})
        self._busy[account_id] += 1
        try:
            yield
        finally:
            self._busy[account_id] -= 1
            if not self._busy[account_id]:
                del self._busy[account_id]

    def issue(self) -> None:
        """Count one challenge against the rate of this process.

        Raises
        ------
        Unavailable
            If too many were issued within the last second.
        """
        now, rate = time.monotonic(), self.policy.limits.challenges_hz
        self._issued = min(rate, self._issued + (now - self._refilled) * rate)
        self._refilled = now
        if self._issued < 1.0:
            msg = "too many challenges are asked for; try again soon"
            raise Unavailable(msg, reason="challenges")
        self._issued -= 1.0

    def payment(
        self, caller: Caller, state: AccountState | None, units: float, asked: Asked, *, deposit: bool
    ) -> PaymentRequired:
        """Return the refusal that asks for work, with a challenge inside.

        Raises
        ------
        Unavailable
            If no challenge can be signed now.
        """
        self.issue()
        problem = self.gate.payment_required(caller, state, units, deposit=deposit, asked=asked)
        self.meter.issued(problem.members["purpose"], problem.members["bits"])
        return problem

    async def open_proof(
        self, proof: str, caller: Caller | None, purposes: tuple[Purpose, ...], asked: Asked
    ) -> Claims:
        """Check all of a proof but its being used once; memory-hard ones beside the event loop.

        Raises
        ------
        Problem
            If it is refused, or too many are being checked: then it stays unclaimed.
        """
        if self.policy.puzzle.alg == "sha256":
            return self.gate.open(proof, caller, purposes, asked)
        if self._checking >= self.policy.limits.verify_queue:
            msg = "too many proofs are being checked; send this one again soon"
            raise Unavailable(msg, reason="verify-pool")
        self._checking += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._verifier, self.gate.open, proof, caller, purposes, asked
            )
        finally:
            self._checking -= 1

    async def refund(self, query_id: str, reason: str) -> None:
        """Give back what an unanswered query has reserved, now or as soon as the store is there."""
        try:
            await self.stored(self.store.refund, query_id, now=self.clock(), reason=reason)
        except Unavailable:
            self.settler.submit(Undone(query_id, reason))
