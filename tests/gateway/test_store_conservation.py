"""Any order of payments, requests, prices, refunds, expiries and sweeps: the books balance."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from assay.gateway.admission import request_terms
from assay.gateway.policy import Policy
from assay.gateway.policy_parts import Limits, Pricing
from assay.gateway.pricing import open_rule
from assay.gateway.store.base import Claim, Retention
from assay.gateway.store.sql import SqlStore

POLICY = Policy(
    pricing=Pricing(
        deposit_units=8.0,
        debt_cap_units=8.0,
        reserve_units=1.0,
        free_units=4.0,
        deposit_release_queries=12,
        billing_items=5,
        llr_edges=(-5.0,),
        llr_values=(-1.0, 3.0),
    ),
    limits=Limits(max_items=4),
)
PRICES = open_rule(POLICY)
TERMS = dataclasses.replace(request_terms(POLICY, PRICES), credit_seconds=600.0)
ACCOUNTS = st.sampled_from("abc")
UNITS = st.integers(1, 30_000_000).map(lambda millionths: millionths / 1e6)
KEEP = Retention(claims=500.0, reservations=300.0, queries=2000.0, items=100.0, journal=1500.0, batch=4)


class Books(RuleBasedStateMachine):
    """A store beside a model that knows only what was said: sums of work, prices and gifts, in millionths."""

    open_queries = Bundle("open_queries")
    proofs = Bundle("proofs")

    def __init__(self):
        super().__init__()
        self.store = SqlStore("sqlite://")
        self.now = 1_600_000_000.0
        self.numbers = itertools.count(1)
        self.claimed: set[str] = set()
        self.work = dict.fromkeys("abc", 0)
        self.given = dict.fromkeys("abc", 0)  # released deposits and refunds
        self.prices = dict.fromkeys("abc", 0)
        self.settled: dict[str, tuple[str, int]] = {}
        self.running: dict[str, tuple[str, float, int, int]] = {}

    def teardown(self):
        self.store.close()

    @staticmethod
    def _one(data, queries):
        # Their names are random: chosen by number, the same draw means the same query again.
        return list(queries)[data.draw(st.integers(0, len(queries) - 1))]

    def _state(self, account):
        return self.store.account(account)

    def _admit(self, account, n_items, claim=None):
        admission = self.store.admit(account, n_items=n_items, terms=TERMS, now=self.now, claim=claim)
        if admission.query_id:
            held = round(admission.reserved_units * 1e6)
            self.running[admission.query_id] = (account, self.now, held, n_items)
        return admission

    @rule(seconds=st.sampled_from([0.5, 40.0, 400.0, 90_000.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(target=proofs, account=ACCOUNTS, units=UNITS, deposit=st.booleans(), n_items=st.integers(1, 4))
    def pay_with_request(self, account, units, deposit, n_items):
        claim = Claim(f"{next(self.numbers):032x}", self.now + 60.0, units, deposit)
        admission = self._admit(account, n_items, claim)
        assert admission.decision != "replay"
        if admission.decision in ("throttle", "deny"):
            assert admission.paid_units == 0.0
        else:
            assert admission.paid_units == units
            self.work[account] += round(units * 1e6)
            self.claimed.add(claim.jti)
        return account, claim

    @rule(target=proofs, account=ACCOUNTS, units=UNITS, deposit=st.booleans())
    def bank(self, account, units, deposit):
        claim = Claim(f"{next(self.numbers):032x}", self.now + 60.0, units, deposit)
        banked = self.store.bank(account, claim, terms=TERMS, now=self.now)
        if banked.outcome == "ok":
            self.work[account] += round(units * 1e6)
            self.claimed.add(claim.jti)
            assert banked.state.credit <= TERMS.max_credit_units or banked.credited_units == 0.0
        else:
            assert banked.outcome == "full"
        return account, claim

    @rule(proof=proofs, with_request=st.booleans())
    def replay(self, proof, with_request):
        account, claim = proof
        if claim.jti not in self.claimed:
            return
        if with_request:
            assert self._admit(account, 1, claim).decision in ("replay", "throttle", "deny")
        else:
            assert self.store.bank(account, claim, terms=TERMS, now=self.now).outcome == "replay"

    @rule(account=ACCOUNTS, n_items=st.integers(1, 4))
    def ask(self, account, n_items):
        before = self._state(account)
        admission = self._admit(account, n_items)
        if before is None:
            assert admission.decision == "price"
            assert self._state(account) is None
        if admission.decision == "serve":
            state = admission.state
            exposed = state.debt + state.reserved - state.credit
            assert exposed <= POLICY.pricing.free_units + 1e-6

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(), log_q=st.lists(st.sampled_from([-80.0, -10.0, -0.7, np.nan]), min_size=4, max_size=4)
    )
    def settle(self, data, log_q):
        query = self._one(data, self.running)
        account, _, _, n_items = self.running.pop(query)
        before = self._state(account)
        digests = [bytes([int(np.nan_to_num(abs(x)))]) * 16 for x in log_q[:n_items]]
        settled = self.store.settle(
            query, PRICES.settle, log_q=np.array(log_q[:n_items]), now=self.now, item_digests=digests
        )
        assert settled is not None
        self.prices[account] += round(settled.units * 1e6)
        self.given[account] += round((settled.state.released - before.released) * 1e6)
        self.settled[query] = (account, round(settled.units * 1e6))
        assert self.store.charge(query, 1.0, now=self.now) is None

    @precondition(lambda self: self.running)
    @rule(data=st.data(), units=UNITS)
    def charge(self, data, units):
        query = self._one(data, self.running)
        account = self.running.pop(query)[0]
        assert self.store.charge(query, units, now=self.now) is not None
        self.prices[account] += round(units * 1e6)
        self.settled[query] = (account, round(units * 1e6))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def refund_running(self, data):
        query = self._one(data, self.running)
        self.running.pop(query)
        assert self.store.refund(query, now=self.now)
        assert not self.store.refund(query, now=self.now)

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def refund_settled(self, data):
        query = self._one(data, self.settled)
        account, price = self.settled.pop(query)
        if self.store.refund(query, now=self.now):  # the sweeper may have forgotten it
            self.given[account] += price

    @rule()
    def sweep(self):
        self.store.sweep(self.now, KEEP)
        for query, (account, at, held, _) in list(self.running.items()):
            if at < self.now - KEEP.reservations:
                del self.running[query]
                self.prices[account] += held

    @invariant()
    def balances(self):
        assert self.store.unbalanced() == []
        journal = self.store.journal(limit=10_000)
        for account in "abc":
            state = self._state(account)
            if state is None:
                assert self.work[account] == 0
                continue
            expired = sum(round(e.expired * 1e6) for e in journal if e.account == account)
            # Work paid buys deposit, answers and credit; nothing appears and nothing is lost.
            left = self.work[account] - round(state.deposited * 1e6) + self.given[account] - expired
            position = round((state.credit - state.debt - state.pending) * 1e6)
            assert position == left - self.prices[account]
            assert round(state.work_paid * 1e6) == self.work[account]
            held = sum(held for owner, _, held, _ in self.running.values() if owner == account)
            assert round(state.reserved * 1e6) == held
            assert state.debt == 0.0 or state.credit == 0.0


Books.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestBooks = Books.TestCase
