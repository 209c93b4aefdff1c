"""The price by volume, counted in the store over all accounts of one customer."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from assay.errors import InvalidInput
from assay.gateway.admission import request_terms
from assay.gateway.policy import Policy, Pricing, VolumePricing
from assay.gateway.pricing import open_rule
from assay.gateway.store.base import Bill

T0 = 1_800_000_000.0
DAY = 86_400.0
VOLUME = VolumePricing(free_items=10.0, half_life_days=1.0)
POLICY = Policy(pricing=Pricing(deposit_units=0.0, free_units=1e5, debt_cap_units=1e5, volume=VOLUME))
RULE, TERMS = open_rule(POLICY), request_terms(POLICY)


def ask(store, account, items, *, at=T0, terms=TERMS, rule=RULE):
    admitted = store.admit(account, n_items=items, terms=terms, now=at)
    assert admitted.decision == "serve", admitted
    digests = [f"{admitted.query_id}{i}".encode()[-16:] for i in range(items)]
    bill = Bill(admitted.query_id, np.full(items, -157.0), digests, account)
    return store.settle_all([bill], rule.settle, now=at, volume=terms.volume)[0]


def test_accounts_of_one_customer_count_together_and_others_do_not(store):
    for account in "abc":
        store.open_account(account, "standard", T0)
    assert store.set_customer("a", "acme", now=T0)
    assert store.set_customer("b", "acme", now=T0)
    first = ask(store, "a", 10)
    joint, alone = ask(store, "b", 10), ask(store, "c", 10)
    assert first.units == pytest.approx(alone.units)
    # Items 11 to 20 of a customer with 10 free ones: 1.1, 1.2, ... 2.0 times the price.
    assert joint.units == pytest.approx(1.55 * first.units, rel=1e-6)
    assert joint.state.volume == pytest.approx(20.0)
    assert store.account("a", volume=VOLUME, now=T0).volume == pytest.approx(20.0)
    assert store.account("c", volume=VOLUME, now=T0).volume == pytest.approx(10.0)
    assert store.account("a").volume is None
    assert store.unbalanced() == []


def test_what_is_long_ago_counts_less(store):
    ask(store, "a", 8)
    assert store.account("a", volume=VOLUME, now=T0 + DAY).volume == pytest.approx(4.0)
    assert ask(store, "a", 8, at=T0 + DAY).state.volume == pytest.approx(12.0)


def test_repeats_count_once(store):
    query = store.admit("a", n_items=3, terms=TERMS, now=T0).query_id
    bill = Bill(query, np.full(3, -157.0), [b"x" * 16] * 3, "a")
    (settled,) = store.settle_all([bill], RULE.settle, now=T0, volume=VOLUME)
    assert settled.state.volume == pytest.approx(1.0)


def test_what_is_billed_flat_counts_like_what_a_rule_has_priced(store):
    for account in "ab":
        store.open_account(account, "standard", T0)
        store.set_customer(account, "acme", now=T0)
    query = store.admit("a", n_items=8, terms=TERMS, now=T0).query_id
    settled = store.charge(query, 16.0, now=T0, volume=VOLUME)
    assert (settled.units, settled.state.volume) == (16.0, 8.0)
    assert store.account("b", volume=VOLUME, now=T0).volume == pytest.approx(8.0)
    assert store.charge(query, 16.0, now=T0, volume=VOLUME) is None  # counted once
    # Counts fade before more is added, as for any other bill.
    later = store.admit("b", n_items=2, terms=TERMS, now=T0 + DAY).query_id
    assert store.charge(later, 4.0, now=T0 + DAY, volume=VOLUME).state.volume == pytest.approx(6.0)
    plain = store.admit("b", n_items=2, terms=TERMS, now=T0 + DAY).query_id
    assert store.charge(plain, 4.0, now=T0 + DAY).state.volume is None
    assert store.account("a", volume=VOLUME, now=T0 + DAY).volume == pytest.approx(6.0)
    assert store.unbalanced() == []


def test_what_a_killed_process_left_counts_when_it_is_billed(store):
    begun = 1_600_000_000.0  # no store sweeps what lies ahead of its database's clock
    later, last = begun + 301.0, begun + 602.0
    store.admit("a", n_items=5, terms=TERMS, now=begun)
    assert store.sweep(later, volume=VOLUME).reservations == 1
    assert store.account("a", volume=VOLUME, now=later).volume == pytest.approx(5.0)
    store.admit("a", n_items=5, terms=TERMS, now=later)
    assert store.sweep(last).reservations == 1  # nothing is counted where nothing depends on it
    assert store.account("a", volume=VOLUME, now=later).volume == pytest.approx(5.0)


def test_no_item_is_lost_where_flat_bills_meet_others(store):
    names = [f"a{i}" for i in range(4)]
    for name in names:
        store.open_account(name, "standard", T0)
        store.set_customer(name, "acme", now=T0)

    def flat(name):
        query = store.admit(name, n_items=2, terms=TERMS, now=T0).query_id
        store.charge(query, 4.0, now=T0, volume=VOLUME)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: [(flat(name), ask(store, name, 2)) for _ in range(3)], names))
    assert store.account("a0", volume=VOLUME, now=T0).volume == pytest.approx(48.0)


def test_a_limit_holds_for_the_customer_until_the_count_has_come_down(store):
    limited = POLICY.model_copy(
        update={"pricing": POLICY.pricing.model_copy(update={"volume": VolumePricing(limit_items=10.0)})}
    )
    rule, terms = open_rule(limited), request_terms(limited)
    for account in "ab":
        store.open_account(account, "standard", T0)
        store.set_customer(account, "acme", now=T0)
    ask(store, "a", 10, terms=terms, rule=rule)
    refused = store.admit("b", n_items=1, terms=terms, now=T0)
    assert (refused.decision, refused.reason) == ("deny", "budget")
    assert refused.retry_after > 0
    assert store.admit("b", n_items=1, terms=terms, now=T0 + refused.retry_after + 1).decision == "serve"


def test_no_item_is_lost_where_accounts_of_one_customer_settle_together(store):
    names = [f"a{i}" for i in range(6)]
    for name in names:
        store.open_account(name, "standard", T0)
        store.set_customer(name, "acme", now=T0)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: [ask(store, name, 2) for _ in range(3)], names))
    assert store.account("a0", volume=VOLUME, now=T0).volume == pytest.approx(36.0)


def test_an_account_may_leave_its_customer_again(store):
    store.open_account("a", "standard", T0)
    store.set_customer("a", "acme", now=T0, reason="same card")
    ask(store, "a", 5)
    store.set_customer("a", "", now=T0)
    assert store.account("a", volume=VOLUME, now=T0).volume == 0.0
    details = [entry.detail for entry in store.journal() if entry.kind == "customer"]
    assert {(one["from"], one["to"], one["reason"]) for one in details} == {
        ("", "acme", "same card"), ("acme", "", ""),
    }  # fmt: skip
    assert not store.set_customer("nobody", "acme", now=T0)
    with pytest.raises(InvalidInput, match="~"):
        store.set_customer("a", "~b", now=T0)


def test_the_list_of_accounts_says_what_counts_for_each_customer(store):
    for account in "ab":
        store.open_account(account, "standard", T0)
        store.set_customer(account, "acme", now=T0)
    ask(store, "a", 5)
    ask(store, "c", 3)
    rows, total = store.accounts(volume=VOLUME, now=T0 + DAY)
    found = {row.state.id: (row.state.volume, row.customer) for row in rows}
    assert total == 3
    assert found == {
        "a": (pytest.approx(2.5), "acme"), "b": (pytest.approx(2.5), "acme"), "c": (pytest.approx(1.5), ""),
    }  # fmt: skip
    assert {row.state.volume for row in store.accounts()[0]} == {None}
    assert (store.customer("a").name, store.customer("b").accounts) == ("acme", ("a", "b"))
    assert (store.customer("c").name, store.customer("c").accounts) == ("", ())
    assert store.customer("a", limit=1).accounts == ("a",)
    store.set_customer("b", "", now=T0)
    assert store.customer("b").name == ""


def test_without_a_price_by_volume_nothing_is_counted(store):
    off = request_terms(Policy(pricing=Pricing(deposit_units=0.0)))
    settled = ask(store, "a", 3, terms=off, rule=open_rule(Policy(pricing=Pricing(deposit_units=0.0))))
    assert settled.state.volume is None
    assert store.account("a", volume=VOLUME, now=T0).volume == 0.0
