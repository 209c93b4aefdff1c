"""The parts of one gateway process, put together once and shared by all its endpoints."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from assay.errors import InvalidInput
from assay.gateway.admission import request_terms
from assay.gateway.keys import Clock
from assay.gateway.policy import check_step
from assay.gateway.pricing import open_rule
from assay.gateway.server.ahead import Ahead
from assay.gateway.server.allowance import Allowance
from assay.gateway.server.body import BodyReader
from assay.gateway.server.gate import Asked, Caller, Gate
from assay.gateway.server.meter import Meter
from assay.gateway.server.parts import MakeParts, Parts
from assay.gateway.server.problems import NotFound, OverBudget, PaymentRequired, Unavailable
from assay.gateway.server.quotes import Quotes
from assay.gateway.server.records import KeyRecorder, key_times, record_policy
from assay.gateway.server.settle import Settler, Undone
from assay.gateway.server.turns import Turns
from assay.gateway.store.base import Retention, StoreBusy, StoreDown
from assay.gateway.upstream.base import UpstreamDown

if TYPE_CHECKING:
    from assay.gateway.account import AccountState
    from assay.gateway.keys import KeyRing
    from assay.gateway.policy import Policy
    from assay.gateway.store.base import Admission, Store
    from assay.gateway.upstream.base import Upstream
    from assay.puzzles.claims import Claims, Purpose

__all__ = ["Gateway"]

_LOG = logging.getLogger("assay.gateway")
_STORE_THREADS = 4
_SWEEP_SECONDS = 60.0
_CATCH_UP_SECONDS = 1.0
_DAY = 86_400.0
_MOST_TOLD = 10_000
_AHEAD = 16
T = TypeVar("T")


class Gateway:
    """Everything that a gateway process consists of, but HTTP.

    Parameters
    ----------
    parts
        The policy in force and what it names.
    upstream
        Where answers come from.
    store
        Accounts, claims and bills; shared by all replicas. Closed with the gateway.
    keys
        Signing keys; the same for all replicas.
    meter
        Counts what happens.
    clock
        Never runs back.
    make_parts
        Opens what another policy names; without it `adopt` takes policies that name nothing.
    ahead
        Whether questions may be `~assay.gateway.server.ahead` of the books.
    """

    def __init__(
        self,
        parts: Parts,
        upstream: Upstream,
        store: Store,
        keys: KeyRing,
        *,
        meter: Meter | None = None,
        clock: Clock | None = None,
        make_parts: MakeParts = Parts,
        ahead: bool = True,
    ) -> None:
        self.upstream, self.store, self.keys = upstream, store, keys
        self.meter = meter or Meter()
        self.clock = clock = clock or Clock()
        self._make_parts = make_parts
        self.quotes: Quotes | None = None
        self.ahead = Ahead(most=_AHEAD if ahead else 0)
        limits = parts.policy.limits
        self.reader = BodyReader(limits.max_bytes, limits.request_seconds)
        self.settler = Settler(
            store,
            open_rule(parts.policy),
            estimator=parts.estimator,
            watchers=parts.watchers,
            capacity=limits.settle_queue,
            clock=clock,
            on_error=self.meter.failed,
        )
        self._take(parts)
        self._recorder = KeyRecorder(store, keys, clock)
        self._told: set[tuple[str, str, float]] = set()
        self._started, self.draining = False, False
        self._pool = ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="store")
        self._pending, self._under_way, self._checking = 0, 0, 0
        # One at a time: each memory-hard try takes megabytes.
        self._verifier = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._busy: Counter[str] = Counter()
        self._challenges = Allowance(limits.challenges_hz)
        self._adopting = asyncio.Lock()
        self._sweeper: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------
    async def start(self) -> None:
        """Connect, look whether the policy fits the model, and begin to sweep; once.

        Raises
        ------
        InvalidInput
            If the policy's defences cannot work on what the model answers.
        """
        if self._started:
            return
        self._started = True
        await self.upstream.start()
        await self._examine(self.parts)
        self.settler.take_turns(Turns(asyncio.get_running_loop()))
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Finish what was begun: all bills are written before the store closes."""
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self.upstream.close()
        if self.quotes is not None:
            await asyncio.to_thread(self.quotes.close)
        left = await asyncio.to_thread(self.settler.close)
        if left:
            _LOG.warning("%d queries stay reserved; the sweeper bills them", left)
        for pool in (self._verifier, self._pool):
            await asyncio.to_thread(pool.shutdown)
        await asyncio.to_thread(self.store.close)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            with suppress(Unavailable):
                await self.tend()

    async def tend(self) -> None:
        """Do what is due now and then: forget what is old, record keys that a rotation has made.

        Raises
        ------
        Unavailable
            If the store does not answer.
        """
        kept = Retention.of_days(self.policy.limits.retention_days)
        await self.stored(self.store.sweep, self.clock(), kept, volume=self.policy.pricing.volume)
        try:
            await self.stored(self._recorder.record)
        except InvalidInput as error:  # the key file is gone or damaged; signing says so as well
            _LOG.warning("the signing keys could not be recorded: %s", error)
            self.meter.failed("keys")

    # --- policies -----------------------------------------------------------------------------
    async def adopt(self, policy: Policy) -> None:
        """Put a newer policy in force while requests go on; all or nothing.

        Challenges of the policy before stay good. Time-outs and connections to the server
        behind, and limits on heads of requests, stay as they were at the start.

        Raises
        ------
        InvalidInput
            If it is older, makes something more than twofold cheaper, or does not fit the model.
        EvidenceTampered
            If its estimator is not the one it was calibrated with.
        Unavailable
            If the store does not answer.
        """
        async with self._adopting:
            before = self.policy
            check_step(before, policy)
            parts = await asyncio.to_thread(self._make_parts, policy)
            await self._examine(parts)
            # Another replica may be further already; the store knows.
            await self.stored(record_policy, self.store, parts, now=self.clock())
            self._take(replace(parts, honoured=frozenset({before.version})))

    def _take(self, parts: Parts) -> None:
        """Put parts in force, in one step of the event loop."""
        policy = parts.policy
        self.parts, self.policy = parts, policy
        self.answers, self.watch = parts.answers or None, parts.watch or None
        self.rule = open_rule(policy)
        self.gate = Gate(policy, request_terms(policy, self.rule), self.keys, self.clock, parts.honoured)
        self.reader.limit(policy.limits.max_bytes, policy.limits.request_seconds)
        rotation, overlap = key_times(policy)
        self.keys.retime(rotation=rotation, overlap=overlap)
        self.settler.adopt(self.rule, parts.estimator, parts.watchers, capacity=policy.limits.settle_queue)
        if self.quotes is not None:
            self.quotes.close(wait=False)
        exact = policy.pricing.timing == "exact"
        self.quotes = Quotes(parts.estimator) if exact and parts.estimator is not None else None

    async def _examine(self, parts: Parts) -> None:
        """Raise `InvalidInput` unless the defences can work on what the policy's model says it answers."""
        name = parts.policy.model
        if not parts.answers or not name:
            return
        try:
            info = await self.upstream.metadata(name)
        except (UpstreamDown, NotFound) as error:
            _LOG.warning("whether the policy's defences fit the model is seen when it is there: %s", error)
            return
        parts.answers.check(info.name or name, labels_only=info.labels_only, classes=info.classes)

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
            raise self._no_books() from error
        finally:
            self._pending -= 1

    async def stored_soon(self, call: Callable[..., T]) -> T:
        """Run one transaction right here if the store can be had at once, else like `stored`.

        Another thread and the way back cost several times what SQLite needs for a transaction.

        Parameters
        ----------
        call
            Takes ``wait``; see `Store.admit`.
        """
        if self.store.at_once and self._pending < self.policy.limits.verify_queue:
            try:
                with suppress(StoreBusy):
                    return call(wait=False)
            except StoreDown as error:
                raise self._no_books() from error
        return await self.stored(call)

    async def books(self, account_id: str) -> AccountState | None:
        """Return what the store knows of an account, with its last answers billed."""
        volume = self.policy.pricing.volume
        look = partial(self.store.account, account_id, volume=volume, now=self.clock())
        state = await self.stored(look)
        return await self.stored(look) if await self.settled(state) else state

    async def settled(self, state: AccountState | None) -> bool:
        """Write the bills that wait if they change what an account owes; tell whether it was done.

        A reservation is dearer than the price that takes its place, so nobody is asked for work,
        or told what is owed, on books that are about to change.
        """
        if state is None or state.reserved <= 0.0 or not self.settler.waiting:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self.settler.catch_up()), _CATCH_UP_SECONDS)
        return True

    def _no_books(self) -> Unavailable:
        self.meter.failed("store")
        msg = "the gateway's books are not available, so nothing is served; try again soon"
        return Unavailable(msg, reason="store", retry_after=2)

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
        if not self._challenges.take(self.policy.limits.challenges_hz):
            msg = "too many challenges are asked for; try again soon"
            raise Unavailable(msg, reason="challenges")

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

    async def over_budget(self, account_id: str, admission: Admission) -> None:
        """Raise an alarm for an account that meets a budget, once a day for each kind of refusal."""
        today = (now := self.clock()) // _DAY * _DAY
        known = (account_id, admission.decision, today)
        if known in self._told or admission.state is None:
            return
        try:
            first = await self.stored(
                self.store.alarm_once,
                account_id,
                f"budget-{admission.decision}",
                admission.spent,
                now=now,
                since=today,
                reason=admission.detail,
            )
        except Unavailable:
            return  # the refusal stands without it; the next one tries again
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told.add(known)
        if first:
            self.meter.over_budget(admission.decision)

    async def refund(self, query_id: str, reason: str) -> None:
        """Give back what an unanswered query has reserved, now or as soon as the store is there."""
        try:
            await self.stored(self.store.refund, query_id, now=self.clock(), reason=reason)
        except Unavailable:
            self.settler.submit(Undone(query_id, reason))
