from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from asking import Asking
from fastapi import FastAPI

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.admission import request_terms
from assay.gateway.operator import charts, operator_router, views, words
from assay.gateway.policy import Defence, Detector, Policy, Pricing, VolumePricing, sign
from assay.gateway.pricing import open_rule
from assay.gateway.store.base import Claim, KeyRow
from assay.gateway.store.sql import SqlStore

TOKEN = "operator-token-1234"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NOW = 1_700_000_000.0
PAGES = ("", "/accounts", "/alarms", "/policy", "/accounts/honest-0")
POLICY = sign(
    Policy(
        version=3,
        model="digits",
        answers=(Defence(name="dawn", settings={"rate": 0.002, "key": "5ec2e7" * 8}),),
        detectors=(Detector(name="coverage", action="throttle"),),
    ),
    bytes(32),
)


@pytest.fixture(scope="module")
def store():
    """Six hours of three accounts, one of them with alarms and a name that wants to be markup."""
    store = SqlStore("sqlite://")
    terms, rule = request_terms(POLICY), open_rule(POLICY)
    store.record_policy(3, "{}", now=NOW - 9e4)
    store.record_key(KeyRow("k1", NOW - 100, NOW + 100))
    for i, name in enumerate(("honest-0", "honest-1", "<b>bad\u202e</b>")):
        for hour in range(6):
            at = NOW - hour * 3600 - i
            claim = Claim(f"{i}{hour}", exp=at + 60, units=500.0, deposit=hour == 0)
            admission = store.admit(name, n_items=4, terms=terms, now=at, claim=claim, model="digits")
            if admission.decision == "serve":
                log_q = np.full(4, -0.2 if i == 2 else -50.0)
                store.settle(admission.query_id, rule.settle, log_q=log_q, now=at)
    store.alarm("<b>bad\u202e</b>", "prada", 0.81, now=NOW - 60, queries=120, action="throttle")
    yield store
    store.close()


@pytest.fixture(scope="module")
def client(store):
    app = FastAPI()
    router = operator_router(
        store, lambda: POLICY, TOKEN, clock=lambda: NOW, facts=lambda: {"commitment": "c0ffee"}
    )
    app.include_router(router)
    return Asking(app)


@pytest.mark.parametrize("page", [*PAGES, "/api/overview", "/api/journal", "/api/policy"])
def test_nothing_is_shown_without_the_token(client, page):
    wrong = base64.b64encode(b"operator:wrong-token-12345").decode()
    for value in (None, "Bearer", "Bearer x", f"Basic {wrong}", "Basic ????", f"Digest {TOKEN}", TOKEN):
        answer = client.get(f"/operator{page}", headers={"Authorization": value} if value else {})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert "honest" not in answer.text


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_whole_and_need_nothing_from_elsewhere(client, page):
    answer = client.get(f"/operator{page}", auth=("anybody", TOKEN))
    assert answer.status_code == 200
    text = answer.text
    assert text.startswith("<!doctype html>")
    assert not re.search(r"(src|href)=\"?https?:", text)
    assert "<script" not in text
    assert not re.search(r"\son\w+=|\sstyle=", text)
    assert text.count("<table") == text.count("</table>")
    assert "Undefined" not in text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    # the digest in the header is that of the one style element, or browsers show it unstyled
    import hashlib

    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}" in policy
    assert answer.headers["cache-control"] == "no-store"


def test_names_that_clients_chose_are_text_and_secrets_are_not_shown(client):
    for page in PAGES[:4]:
        text = client.get(f"/operator{page}", headers=BEARER).text
        assert "<b>bad" not in text
        assert "\u202e" not in text
        assert "5ec2e7" not in text
    assert "&lt;b&gt;bad" in client.get("/operator/accounts", headers=BEARER).text
    assert "c0ffee" in client.get("/operator/policy", headers=BEARER).text


def test_the_json_policy_shows_no_secret(client):
    data = client.get("/operator/api/policy", headers=BEARER)
    assert data.json()["digest"] == POLICY.digest
    assert "5ec2e7" not in data.text


def test_an_account_page_is_found_by_its_odd_name(client):
    from urllib.parse import quote

    name = quote("<b>bad\u202e</b>", safe="")
    answer = client.get(f"/operator/accounts/{name}", headers=BEARER)
    assert answer.status_code == 200
    assert "prada" in answer.text
    assert client.get("/operator/accounts/nobody", headers=BEARER).status_code == 404
    assert client.get("/operator/api/accounts/nobody", headers=BEARER).status_code == 404


def test_numbers_of_the_page_are_those_of_the_books(client, store):
    data = client.get("/operator/api/overview?hours=24", headers=BEARER).json()
    queries = store.queries(limit=1000)
    assert data["tiles"]["answered"] == sum(q.n_items for q in queries) > 0
    assert data["tiles"]["units"] == pytest.approx(sum(q.price for q in queries))
    assert data["tiles"]["accounts"] == 3
    assert data["tiles"]["alarms"] == len(store.alarms(limit=100))
    assert sum(b["items"] for b in data["history"]) == data["tiles"]["answered"]
    page = client.get("/operator", headers=BEARER).text
    assert f"<dd>{words.compact(data['tiles']['answered'])}</dd>" in page


@pytest.fixture
def by_volume():
    """Two accounts of one customer and one by itself, where item 21 costs twice as much as item 10."""
    volume = VolumePricing(free_items=10.0, half_life_days=1.0)
    pricing = Pricing(deposit_units=0.0, free_units=1e5, debt_cap_units=1e5, volume=volume)
    policy, store = Policy(pricing=pricing), SqlStore("sqlite://")
    terms, rule = request_terms(policy), open_rule(policy)
    for name in ("one", "two", "alone"):
        store.open_account(name, "standard", NOW)
    for name in ("one", "two"):
        store.set_customer(name, "acme <b>", now=NOW)
    for name, items in (("one", 12), ("two", 8), ("alone", 4)):
        query = store.admit(name, n_items=items, terms=terms, now=NOW).query_id
        store.settle(query, rule.settle, log_q=np.full(items, -50.0), now=NOW, volume=volume)
    now, active = [NOW], [policy]
    app = FastAPI()
    app.include_router(operator_router(store, lambda: active[0], TOKEN, clock=lambda: now[0]))
    yield Asking(app), now, active
    store.close()


def test_a_customers_volume_is_shown_where_prices_depend_on_it(by_volume):
    client, now, active = by_volume
    page = client.get("/operator/accounts/two", headers=BEARER).text
    assert "<dt>Volume</dt><dd>20 <small>items, price × 2.10</small>" in page
    assert "Taken for <strong>acme &lt;b&gt;</strong>" in page
    assert "/operator/accounts/one" in page
    alone = client.get("/operator/accounts/alone", headers=BEARER).text
    assert "<dt>Volume</dt><dd>4 <small>items, price × 1.00</small>" in alone
    assert "Taken for" not in alone
    rows = client.get("/operator/accounts", headers=BEARER).text
    assert rows.count("acme &lt;b&gt;") == 2
    assert rows.count("× 2.10") == 2
    data = client.get("/operator/api/accounts/one", headers=BEARER).json()
    assert (data["volume"], data["volume_factor"], data["customer"]) == (20.0, 2.1, "acme <b>")
    listed = client.get("/operator/api/accounts", headers=BEARER).json()["accounts"]
    assert {row["state"]["id"]: (row["state"]["volume"], row["customer"]) for row in listed} == {
        "one": (20.0, "acme <b>"), "two": (20.0, "acme <b>"), "alone": (4.0, ""),
    }  # fmt: skip
    now[0] = NOW + 86_400.0  # half of it counts a day later, on every page
    assert client.get("/operator/api/accounts/one", headers=BEARER).json()["volume"] == 10.0
    assert "× 2.10" not in client.get("/operator/accounts", headers=BEARER).text
    # Nothing is said where nothing depends on it, but who belongs to whom is.
    active[0] = Policy()
    page = client.get("/operator/accounts/two", headers=BEARER).text
    assert "<dt>Volume</dt>" not in page
    assert "Taken for <strong>acme" in page
    assert "Customer" not in client.get("/operator/accounts", headers=BEARER).text
    data = client.get("/operator/api/accounts/one", headers=BEARER).json()
    assert (data["volume"], data["volume_factor"], data["customer"]) == (None, None, "acme <b>")


def test_a_customer_over_its_limit_stands_out(by_volume):
    client, _, active = by_volume
    volume = VolumePricing(limit_items=15.0, half_life_days=1.0)
    active[0] = Policy(pricing=Pricing(deposit_units=0.0, volume=volume))
    page = client.get("/operator/accounts/one", headers=BEARER).text
    assert '<div class="hot"><dt>Volume</dt><dd>20 <small>items, at the limit of 15</small>' in page
    assert "items, limit 15</small>" in client.get("/operator/accounts/alone", headers=BEARER).text
    assert client.get("/operator/accounts", headers=BEARER).text.count(">limit</span>") == 2


def test_data_pages_through_and_filters(client, store):
    rows = client.get("/operator/api/accounts?order=work&limit=2", headers=BEARER).json()
    assert rows["total"] == 3
    paid = [row["state"]["work_paid"] for row in rows["accounts"]]
    assert paid == sorted(paid, reverse=True)
    assert client.get("/operator/api/accounts?prefix=honest-1", headers=BEARER).json()["total"] == 1
    assert {
        q["account"] for q in client.get("/operator/api/queries?account=honest-1", headers=BEARER).json()
    } == {"honest-1"}
    journal = client.get("/operator/api/journal?limit=5", headers=BEARER).json()
    more = client.get(f"/operator/api/journal?after={journal[-1]['id']}", headers=BEARER).json()
    assert [row["id"] for row in journal + more] == [row.id for row in store.journal()]
    state = client.get("/operator/api/accounts/honest-0", headers=BEARER).json()
    assert state["work_paid"] == store.account("honest-0").work_paid
    assert client.get("/operator/api/alarms?account=honest-0", headers=BEARER).json() == []


@pytest.mark.parametrize(
    "query",
    ["?hours=5", "?hours=-1", "?hours=x", "/accounts?order=luck", "/accounts?page=0", "/api/queries?limit=0"],
)
def test_odd_questions_are_refused(client, query):
    assert client.get(f"/operator{query}", headers=BEARER).status_code == 422


def test_nothing_can_be_changed_here(client):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client(method, "/operator/accounts", headers=BEARER).status_code == 405


def test_live_pages_ask_the_browser_to_come_back(client):
    assert "refresh" not in client.get("/operator", headers=BEARER).headers
    assert client.get("/operator?live=1", headers=BEARER).headers["refresh"] == "30"


def test_an_empty_gateway_has_pages_too():
    store = SqlStore("sqlite://")
    app = FastAPI()
    app.include_router(operator_router(store, Policy, TOKEN, clock=lambda: NOW))
    client = Asking(app)
    for page in PAGES[:4]:
        assert client.get(f"/operator{page}", headers=BEARER).status_code == 200
    assert client.get("/operator/api/overview", headers=BEARER).json()["tiles"]["price"] == 0
    store.close()


def test_a_short_token_is_refused(store):
    with pytest.raises(InvalidInput, match="16 characters"):
        operator_router(store, Policy, "short")


# --- charts and words ---------------------------------------------------------------------------


def test_bars_are_as_high_as_their_values():
    drawn = charts.bars(charts.Series("Items", 0.0, 3600.0, 4, [0.0, 1.0, None, 4.0]))
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([\d.]+)"', drawn)]
    assert len(heights) == 2
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.01)
    assert "at most 4" in drawn


def test_a_line_has_gaps_where_nothing_is_known():
    drawn = charts.line(charts.Series("P", 0.0, 60.0, 6, [1.0, 2.0, None, 3.0, None, 1.0]), level=2.0)
    assert drawn.count("<polyline") == 1
    assert drawn.count("<circle") == 2
    assert 'class="level"' in drawn


def test_a_histogram_counts_every_value_once():
    drawn = charts.histogram("P", [0.1, 0.2, 1.5, 99.0, -1.0], [0, 1, 2])
    assert re.findall(r": (\d+)</title>", drawn) == ["3", "1", "1"]
    assert "nothing yet" in charts.histogram("P", [], [0, 1])


@pytest.mark.parametrize("top", [1e-6, 0.3, 1.0, 7.0, 99.0, 12345.0, 3e9])
def test_scales_reach_the_largest_value_in_a_few_round_steps(top):
    most, lines = charts._grid([top])
    assert top <= most * 1.001 <= 2.1 * top
    assert 2 <= len(lines) <= 5


@pytest.mark.parametrize("hours", [1, 24, 168, 720])
def test_charts_cover_the_time_that_they_say(hours):
    span = views.Span.last(NOW, hours)
    assert span.since <= NOW - hours * 3600
    assert span.until > NOW
    times = charts._times(charts.Series("x", span.since, span.width, span.count, []))
    assert 2 <= len(times) <= 8


def test_a_chart_says_what_others_see():
    assert "nothing" in charts.Series("Alarms", 0.0, 60.0, 2, [0.0, 0.0]).words
    assert (
        "at most 3 alarms at 1970-01-01 00:01" in charts.Series("A", 0, 60.0, 2, [1.0, 3.0], "alarms").words
    )


def test_text_from_clients_is_cut_and_made_harmless():
    assert words.plain("a" * 500).endswith("…")
    assert words.plain("x\x00\u200by") == "x\ufffd\ufffdy"


def test_records_become_json():
    shown = views.as_json({"a": AccountState("x", rdp=(1.0, float("inf")))})
    assert shown["a"]["rdp"] == [1.0, None]
