from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flat_terms import Terms

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.admission import request_terms
from assay.gateway.policy import Policy
from assay.gateway.policy_parts import Budgets as PolicyBudgets
from assay.gateway.policy_parts import Pricing
from assay.gateway.pricing import open_rule
from assay.gateway.store.base import Bill, Claim
from assay.gateway.store.sql import SqlStore

T0 = 1_600_000_000.0
FLAT = Terms(reserve_units=2.0, cap_units=20.0, free_units=5.0)
WIDE = Terms(reserve_units=2.0, cap_units=1e6, free_units=1e6)
ENTRY = Terms(reserve_units=2.0, cap_units=20.0, free_units=5.0, deposit_units=10.0)


def proof(number: int, units: float, *, deposit: bool = False, exp: float = T0 + 60) -> Claim:
    return Claim(f"{number:032x}", exp, units, deposit)


def test_a_stranger_is_asked_for_a_deposit_and_leaves_no_trace(store):
    ask = store.admit("a", n_items=1, terms=ENTRY, now=T0)
    assert (ask.decision, ask.reason, ask.deposit, ask.due_units) == ("price", "deposit", True, 10.0)
    assert ask.state is None
    assert store.account("a") is None
    assert store.accounts() == ([], 0)


def test_a_deposit_admits_the_request_that_carries_it_once(store):
    first = store.admit("a", n_items=3, terms=ENTRY, now=T0, claim=proof(1, 12.0, deposit=True), model="m")
    assert first.decision == "serve"
    assert (first.paid_units, first.reserved_units) == (12.0, 6.0)
    assert first.state == AccountState(
        "a", work_paid=12.0, deposited=10.0, credit=2.0, reserved=6.0, updated_at=T0
    )
    again = store.admit("a", n_items=3, terms=ENTRY, now=T0, claim=proof(1, 12.0, deposit=True))
    assert (again.decision, again.paid_units, again.query_id) == ("replay", 0.0, None)
    assert store.account("a") == first.state
    other = store.admit("b", n_items=3, terms=ENTRY, now=T0, claim=proof(1, 12.0, deposit=True))
    assert other.decision == "replay"
    assert store.account("b") is None  # a replay opens no account
    assert store.unbalanced() == []


def test_debt_is_asked_for_and_paid_work_is_never_lost(store):
    query = store.admit("a", n_items=4, terms=FLAT, now=T0).query_id
    settled = store.charge(query, 9.0, now=T0 + 1)
    assert (settled.before.debt, settled.state.debt, settled.state.reserved) == (0.0, 9.0, 0.0)
    asked = store.admit("a", n_items=1, terms=FLAT, now=T0 + 2)
    assert (asked.decision, asked.reason, asked.due_units) == ("price", "debt", 9.0)
    # The challenge was for less than what is owed by now: the work counts, the request waits.
    part = store.admit("a", n_items=1, terms=FLAT, now=T0 + 2, claim=proof(1, 3.0))
    assert (part.decision, part.paid_units, part.due_units, part.state.debt) == ("price", 3.0, 6.0, 6.0)
    rest = store.admit("a", n_items=1, terms=FLAT, now=T0 + 2, claim=proof(2, 7.0))
    assert (rest.decision, rest.state.debt, rest.state.credit) == ("serve", 0.0, 1.0)
    assert rest.state.work_paid == 10.0
    assert store.unbalanced() == []


def test_concurrent_requests_cannot_outrun_their_prices(store):
    ids = [store.admit("a", n_items=2, terms=FLAT, now=T0).query_id for _ in range(5)]
    assert all(ids)
    full = store.admit("a", n_items=2, terms=FLAT, now=T0)
    assert (full.decision, full.due_units) == ("price", 4.0)  # 24 reserved, 20 allowed
    store.refund(ids[0], now=T0)
    assert store.admit("a", n_items=2, terms=FLAT, now=T0).decision == "serve"


def test_many_threads_never_pass_the_cap(store):
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        return [store.admit("a", n_items=1, terms=FLAT, now=T0).decision for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        decisions = [d for part in pool.map(work, range(8)) for d in part]
    assert decisions.count("serve") == 10
    assert store.account("a").reserved == 20.0
    assert store.unbalanced() == []


def test_refund_gives_back_and_does_not_unclaim(store):
    admitted = store.admit("a", n_items=2, terms=FLAT, now=T0, claim=proof(1, 3.0))
    assert store.refund(admitted.query_id, now=T0, reason="upstream") is True
    state = store.account("a")
    assert (state.credit, state.reserved, state.debt, state.work_paid) == (3.0, 0.0, 0.0, 3.0)
    assert store.refund(admitted.query_id, now=T0) is False
    assert store.charge(admitted.query_id, 1.0, now=T0) is None
    assert store.admit("a", n_items=2, terms=FLAT, now=T0, claim=proof(1, 3.0)).decision == "replay"
    assert store.queries()[0].status == "refunded"
    (view,), _ = store.accounts()
    assert (view.items_today, view.work_today) == (0, 0.0)


def test_refund_of_a_settled_query_credits_its_price(store):
    query = store.admit("a", n_items=2, terms=FLAT, now=T0).query_id
    store.charge(query, 4.0, now=T0)
    assert store.refund(query, now=T0)
    assert store.account("a").debt == 0.0
    other = store.admit("a", n_items=2, terms=FLAT, now=T0, claim=proof(1, 4.0)).query_id
    store.charge(other, 4.0, now=T0)
    assert store.refund(other, now=T0)
    assert store.account("a").credit == 4.0
    assert store.unbalanced() == []


def test_settlement_is_exactly_once(store):
    query = store.admit("a", n_items=1, terms=FLAT, now=T0).query_id
    barrier = threading.Barrier(6)

    def work(_):
        barrier.wait()
        return store.charge(query, 1.5, now=T0)

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(work, range(6)))
    assert sum(settled is not None for settled in done) == 1
    assert store.account("a").debt == 1.5


def test_settle_runs_the_policys_rule_and_keeps_what_it_learnt(store):
    policy = Policy(pricing=Pricing(deposit_units=0.0, free_units=500.0, debt_cap_units=500.0))
    rule, terms = open_rule(policy), request_terms(policy)
    state = AccountState("a")
    for step in range(4):
        log_q = np.array([-20.0, -0.7, np.nan])
        query = store.admit("a", n_items=3, terms=terms, now=T0 + step).query_id
        settled = store.settle(query, rule.settle, log_q=log_q, now=T0 + step)
        state, settlement = rule.settle(state, log_q)
        assert settled.units == pytest.approx(settlement.total, abs=1e-6)
        assert settled.flags == settlement.flags
    found = store.account("a")
    assert found.rdp == pytest.approx(state.rdp, rel=1e-15)
    assert (found.queries, found.epsilon, found.cusum) == (12, state.epsilon, state.cusum)
    assert found.debt + found.pending == pytest.approx(state.debt + state.pending, abs=1e-5)
    assert (found.pending_items, found.pending == 0.0) == (state.pending_items, state.pending == 0.0)
    row = store.queries()[0]
    assert row.log_q[:2] == pytest.approx((-20.0, -0.7), rel=1e-6)
    assert np.isnan(row.log_q[2])
    assert store.unbalanced() == []


def test_settlement_that_fails_changes_nothing(store):
    query = store.admit("a", n_items=1, terms=FLAT, now=T0).query_id
    before = store.account("a")

    def broken(state, log_q, duplicates):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.settle(query, broken, log_q=np.zeros(1), now=T0)
    with pytest.raises(InvalidInput, match="1 items"):
        store.settle(query, broken, log_q=np.zeros(2), now=T0)
    with pytest.raises(InvalidInput, match="at most 0"):
        store.settle(query, broken, log_q=np.ones(1), now=T0)
    assert store.account("a") == before
    assert store.charge(query, 1.0, now=T0) is not None


def test_repeated_items_are_found_within_and_across_requests(store):
    seen = []

    def rule(state, log_q, duplicates):
        seen.append(duplicates.tolist())
        return open_rule(Policy()).settle(state, log_q, duplicates)

    for account, digests in (
        ("a", [b"x" * 32, b"y" * 32, b"x" * 32]),
        ("a", [b"z" * 32, b"y" * 32]),
        ("b", [b"x" * 32]),
    ):
        query = store.admit(account, n_items=len(digests), terms=FLAT, now=T0).query_id
        store.settle(query, rule, log_q=np.full(len(digests), -50.0), now=T0, item_digests=digests)
    assert seen == [[False, False, True], [False, True], [False]]


def test_alarm_of_the_rule_is_recorded_with_the_settlement(store):
    policy = Policy(
        pricing=Pricing(deposit_units=0.0, llr_edges=(-5.0,), llr_values=(-1.0, 3.0), threshold=9.0)
    )
    rule, terms = open_rule(policy), request_terms(policy)
    query = store.admit("a", n_items=8, terms=terms, now=T0).query_id
    settled = store.settle(query, rule.settle, log_q=np.full(8, -0.7), now=T0)
    assert settled.flags == ("alarm",)
    assert settled.multiplier > 1.0
    (alarm,) = store.alarms()
    assert (alarm.account, alarm.kind, alarm.detail) == ("a", "cusum", {"query": query})
    assert alarm.value == store.account("a").cusum
    assert store.history(since=T0 - 10, until=T0 + 10, width=10.0)[0].alarms == 1


def test_banked_work_pays_debt_first_then_is_credit_up_to_a_bound(store):
    query = store.admit("a", n_items=2, terms=FLAT, now=T0).query_id
    store.charge(query, 4.0, now=T0)
    terms = Terms(reserve_units=2.0, cap_units=20.0, max_credit_units=10.0, credit_seconds=100.0)
    banked = store.bank("a", proof(1, 10.0), terms=terms, now=T0)
    assert (banked.outcome, banked.credited_units, banked.expires) == ("ok", 6.0, T0 + 100.0)
    assert (banked.state.debt, banked.state.credit) == (0.0, 6.0)
    full = store.bank("a", proof(2, 5.0), terms=terms, now=T0)
    assert full.outcome == "full"
    assert store.bank("a", proof(2, 4.0), terms=terms, now=T0).outcome == "ok"  # it was not claimed
    assert store.bank("a", proof(1, 10.0), terms=terms, now=T0).outcome == "replay"
    assert store.unbalanced() == []


def test_credit_expires_and_what_ends_first_is_spent_first(store):
    short = Terms(reserve_units=1.0, cap_units=50.0, credit_seconds=100.0)
    long = Terms(reserve_units=1.0, cap_units=50.0, credit_seconds=1000.0)
    store.bank("a", proof(1, 10.0), terms=long, now=T0)
    store.bank("a", proof(2, 5.0), terms=short, now=T0)
    query = store.admit("a", n_items=1, terms=long, now=T0).query_id
    store.charge(query, 3.0, now=T0)
    assert store.account("a").credit == 12.0
    after = store.admit("a", n_items=1, terms=long, now=T0 + 200.0)
    assert after.state.credit == 10.0  # the 2 left of the short lot are gone
    store.refund(after.query_id, now=T0 + 200.0)
    assert store.sweep(T0 + 2000.0).credits == 1
    assert store.account("a").credit == 0.0
    assert sum(entry.expired for entry in store.journal()) == 12.0
    assert store.unbalanced() == []


@pytest.mark.parametrize(
    ("budgets", "decision", "reason"),
    [
        ({"queries_per_day": 10}, "deny", "budget"),
        ({"work_per_day": 8.0}, "deny", "budget"),
        ({"queries_per_day": 100, "throttle_at": 0.04, "throttle_hz": 0.5}, "throttle", "throttled"),
    ],
)
def test_totals_stop_an_account_before_its_proof_is_claimed(store, budgets, decision, reason):
    pricing = Pricing(deposit_units=0.0, free_units=500.0, debt_cap_units=500.0)
    terms = request_terms(Policy(budgets=PolicyBudgets(**budgets), pricing=pricing))
    assert store.admit("a", n_items=4, terms=terms, now=T0).decision == "serve"
    stopped = store.admit("a", n_items=7, terms=terms, now=T0 + 1, claim=proof(1, 50.0))
    assert (stopped.decision, stopped.reason) == (decision, reason)
    assert stopped.retry_after > 0
    assert store.account("a").work_paid == 0.0
    # The proof is still good, here for the time after the wait.
    later = store.admit(
        "a", n_items=4, terms=terms, now=T0 + stopped.retry_after + 1, claim=proof(1, 50.0, exp=T0 + 9e5)
    )
    assert (later.decision, later.paid_units) == ("serve", 50.0)


def test_the_policys_budgets_and_tiers_count(store):
    policy = Policy(budgets=PolicyBudgets(queries_per_day=6), pricing=Pricing(deposit_units=0.0))
    terms = request_terms(policy)
    assert store.admit("a", n_items=4, terms=terms, now=T0).decision == "serve"
    assert store.admit("a", n_items=4, terms=terms, now=T0).decision == "deny"
    assert store.set_tier("a", "barred", now=T0, reason="alarm of prada")
    barred = store.admit("a", n_items=1, terms=terms, now=T0 + 90_000)
    assert (barred.decision, barred.detail, barred.retry_after) == ("deny", "the account is barred", None)
    store.set_tier("a", "throttled", now=T0 + 90_000)
    assert store.admit("a", n_items=2, terms=terms, now=T0 + 90_000).decision == "serve"
    slow = store.admit("a", n_items=2, terms=terms, now=T0 + 90_001)
    assert (slow.decision, slow.retry_after) == ("throttle", pytest.approx(1.0))
    assert store.set_tier("nobody", "barred", now=T0) is False
    assert [e.detail["to"] for e in store.journal() if e.kind == "tier"] == ["barred", "throttled"]


def test_exact_timing_reserves_what_was_quoted(store):
    policy = Policy(pricing=Pricing(deposit_units=0.0, timing="exact"))
    rule = open_rule(policy)
    log_q = np.array([-0.7, -100.0])
    terms = request_terms(policy, rule, quote=lambda state: rule.quote(state, log_q).total)
    price = rule.quote(AccountState("a"), log_q).total
    admitted = store.admit("a", n_items=2, terms=terms, now=T0)
    assert admitted.reserved_units == pytest.approx(price)
    settled = store.settle(admitted.query_id, rule.settle, log_q=log_q, now=T0)
    assert settled.state.debt == pytest.approx(price, abs=1e-6)


def test_paper_mode_bills_one_puzzle_a_request(store):
    policy = Policy(pricing=Pricing(mode="paper"))
    rule, terms = open_rule(policy), request_terms(policy)
    first = store.admit("a", n_items=2, terms=terms, now=T0)
    assert first.decision == "price"
    paid = store.admit("a", n_items=2, terms=terms, now=T0, claim=proof(1, first.due_units))
    assert paid.decision == "serve"
    settled = store.settle(paid.query_id, rule.settle, log_q=np.full(2, -0.7), now=T0)
    assert settled.state.debt == pytest.approx(max(0.0, settled.units - first.due_units), abs=1e-5)
    assert store.unbalanced() == []


def test_named_states_are_changed_by_one_at_a_time(store):
    def add(old):
        return (
            (int(old or b"0") + 1).to_bytes(2, "big").hex().encode()
            if False
            else b"%d" % (int(old or b"0") + 1)
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.amend("a", "detector/prada", add, now=T0), range(20)))
    assert store.amend("a", "detector/prada", lambda old: old, now=T0) == b"20"
    assert store.amend("a", "detector/coverage", lambda old: old, now=T0) is None
    assert store.amend("a", "detector/prada", lambda _: None, now=T0) is None
    assert store.amend("a", "detector/prada", lambda old: old, now=T0) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.admit("", n_items=1, terms=FLAT, now=T0),
        lambda s: s.admit("a" * 300, n_items=1, terms=FLAT, now=T0),
        lambda s: s.admit("a", n_items=0, terms=FLAT, now=T0),
        lambda s: s.admit("a", n_items=1, terms=FLAT, now=T0, claim=Claim("", T0, 1.0)),
        lambda s: s.bank("a", Claim("x", T0, -1.0), terms=FLAT, now=T0),
        lambda s: s.bank("a", Claim("x", T0, float("nan")), terms=FLAT, now=T0),
        lambda s: s.charge("x", float("inf"), now=T0),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(store, call):
    with pytest.raises(InvalidInput):
        call(store)
    assert store.accounts() == ([], 0)
    assert list(store.journal()) == []


def test_unknown_queries_are_not_settled(store):
    assert store.charge("nothing", 1.0, now=T0) is None
    assert store.refund("nothing", now=T0) is False


@pytest.mark.parametrize("url", ["mysql://x", "nonsense", "sqlite:///x?synchronous=OFF"])
def test_other_databases_are_refused(url):
    with pytest.raises(InvalidInput):
        SqlStore(url)


def test_bills_of_several_accounts_in_one_transaction_are_the_same_as_one_by_one(store):
    """Accounts a and b together, interleaved and with bills that close nothing; c and d bill by bill."""
    rule = open_rule(Policy(pricing=Pricing(billing_items=3)))
    rng = np.random.default_rng(0)
    bills: dict[str, list[Bill]] = {}
    for account in "abcd":
        store.admit(account, n_items=1, terms=FLAT, now=T0, claim=proof(ord(account), 6.0))
        ids = [store.admit(account, n_items=n, terms=WIDE, now=T0 + 1).query_id for n in (1, 2, 1, 1, 3, 1)]
        values = np.random.default_rng("abcd".index(account) % 2)
        bills[account] = [
            Bill(query, -values.exponential(9.0, n), [bytes([7 * i + k]) * 16 for k in range(n)], account)
            for i, (query, n) in enumerate(zip(ids, (1, 2, 1, 1, 3, 1), strict=True))
        ]
        bills[account][4].item_digests[0] = bills[account][0].item_digests[0]  # a repeat
        store.charge(ids[5], 1.5, now=T0 + 2)  # closed already
    unknown = Bill("gone", np.array([-1.0]), [], "a")
    foreign = Bill(bills["b"][1].query_id, bills["b"][1].log_q, bills["b"][1].item_digests, "a")
    together = [
        unknown,
        foreign,
        *(bill for pair in zip(bills["a"], bills["b"], strict=True) for bill in pair),
    ]
    order = rng.permutation(len(together))
    done = store.settle_all([together[i] for i in order], rule.settle, now=T0 + 3)
    assert sum(one is None for one in done) in (3, 4)  # gone, twice closed, and perhaps the foreign one
    # Those that were billed in another order than they were asked have other running sums, not other totals.
    for account in "cd":
        for bill in bills[account]:
            store.settle_all([bill], rule.settle, now=T0 + 3)
    for one, other in ("ac", "bd"):
        first, second = store.account(one), store.account(other)
        assert first.queries == second.queries
        assert first.reserved == second.reserved == 2.0  # what came with the proof is not settled
        total = [x.debt + x.pending - x.credit for x in (first, second)]
        assert total[0] == pytest.approx(total[1], abs=1e-4)
        assert first.rdp == pytest.approx(second.rdp)
    assert store.unbalanced() == []
