"""What a running gateway does by itself: retention, alarms, records of keys."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import make_policy, rows, serving
from test_server_flow import Watched, with_estimator

from assay.gateway.metrics import Metrics
from assay.gateway.policy import Budgets
from assay.gateway.server.pages import pages
from assay.gateway.store.base import Retention, StoreDown

TOKEN = "operator-token-of-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DAY = 86_400.0


class Pages:
    """A gateway with metrics and the operator's page."""

    def __init__(self, folder, policy):
        self.metrics, self.folder, self.policy = Metrics(), folder, policy

    def __enter__(self):
        self.context = serving(self.folder, self.policy, meter=self.metrics)
        running = self.context.__enter__()
        for router in pages(running.gateway, self.metrics, TOKEN):
            running.app.app.include_router(router)
        running.counted = self.counted
        return running

    def __exit__(self, *error):
        return self.context.__exit__(*error)

    def counted(self, line):
        return line.encode() in self.metrics.render()


# --- retention ------------------------------------------------------------------------------------
def test_the_policy_says_how_long_queries_are_kept(tmp_path, monkeypatch):
    seen = []
    with serving(tmp_path, make_policy(limits={"retention_days": 2.0})) as gateway:
        sweep = gateway.store.sweep

        def noted(now, kept, **more):
            seen.append(kept)
            return sweep(now, kept, **more)

        monkeypatch.setattr(gateway.store, "sweep", noted)
        gateway.run(gateway.gateway.tend())
        assert seen == [Retention.of_days(2.0)]
        assert (seen[0].queries, seen[0].items, seen[0].alarms) == (2 * DAY, 2 * DAY, 6 * DAY)
        gateway.open_account()
        gateway.settled()
        now = time.time()
        for days, left in ((1.9, 1), (2.1, 0)):
            monkeypatch.setattr(gateway.gateway, "clock", lambda days=days: now + days * DAY)
            gateway.run(gateway.gateway.tend())
            assert len(gateway.store.queries()) == left
        assert gateway.store.unbalanced() == []
    assert Retention.of_days(30.0) == Retention()
    assert Retention.of_days(60.0).items == 7 * DAY


# --- alarms -----------------------------------------------------------------------------------------
def test_an_account_whose_prices_begin_to_rise_is_an_alarm_once(tmp_path):
    """Every query of the crossing is above the threshold; the row and the count are one."""
    terms = {"llr_edges": (-1.0,), "llr_values": (-2.0, 2.0), "threshold": 3.0}
    policy = make_policy(**terms, free_units=16.0, debt_cap_units=16.0)
    with Pages(tmp_path, policy) as gateway:

        class Leaking(Watched):
            value = -0.1

            def log_q(self, x, *, scores=None):
                return super().log_q(x) * 0.0 + self.value

        estimator = Leaking()
        with_estimator(gateway, estimator)
        key = gateway.open_account()

        def ask(first, n):
            from serving import solve

            for i in range(first, first + n):
                gateway.settled()
                answer = gateway.infer(rows(1, seed=i), key=key)
                while answer.status_code == 428:
                    proof = solve(answer.json()["challenge"])
                    answer = gateway.infer(rows(1, seed=i), key=key, proof=proof)
                assert answer.status_code == 200
            gateway.settled()

        ask(100, 6)
        (alarm,) = gateway.store.alarms()
        assert (alarm.kind, alarm.account) == ("cusum", gateway.store.queries(limit=1)[0].account)
        assert alarm.value > 3.0
        assert gateway.store.account(alarm.account).cusum > alarm.value
        assert gateway.counted("assay_price_alarms_total 1.0")
        page = gateway.get("/operator/alarms", headers=BEARER)
        assert page.text.count("cusum") == 1
        assert gateway.get("/operator/api/overview", headers=BEARER).json()["tiles"]["alarms"] == 1
        # Calm again, and once more: the second crossing is a second alarm.
        estimator.value = -50.0
        ask(200, 12)
        assert gateway.store.account(alarm.account).cusum == 0.0
        estimator.value = -0.1
        ask(300, 4)
        assert len(gateway.store.alarms()) == 2
        assert gateway.counted("assay_price_alarms_total 2.0")


@pytest.mark.parametrize(("throttle_hz", "action"), [(0.001, "throttle"), (1e6, "deny")])
def test_an_account_that_meets_a_budget_is_an_alarm_once_a_day(tmp_path, throttle_hz, action):
    budgets = Budgets(queries_per_day=4, throttle_at=0.5, throttle_hz=throttle_hz)
    with Pages(tmp_path, make_policy(budgets=budgets)) as gateway:
        key, statuses = gateway.open_account(), []
        for i in range(8):
            gateway.settled()
            statuses.append(gateway.infer(rows(1, seed=i), key=key))
        refused = [one for one in statuses if one.status_code == 429]
        assert len(refused) > 2
        assert "queries" in refused[0].json()["detail"]
        (alarm,) = gateway.store.alarms()
        assert alarm.kind == f"budget-{action}"
        assert alarm.value >= 0.5
        assert "queries" in alarm.detail["reason"]
        assert gateway.counted(f'assay_budget_alarms_total{{action="{action}"}} 1.0')
        assert f"budget-{action}" in gateway.get("/operator", headers=BEARER).text
        # Another process has no memory of it, but the store has.
        gateway.gateway._told.clear()
        assert gateway.infer(rows(1), key=key).status_code == 429
        assert len(gateway.store.alarms()) == 1


def test_strangers_and_too_many_at_once_are_no_alarm(tmp_path):
    budgets = Budgets(queries_per_day=4)
    with Pages(tmp_path, make_policy(budgets=budgets)) as gateway:
        key = gateway.open_account()
        gateway.settled()
        assert (
            gateway.infer(rows(5), key=gateway.post("/pow/v1/account").json()["account_key"]).status_code
            == 429
        )
        gateway.store.set_tier(gateway.store.queries(limit=1)[0].account, "barred", now=time.time())
        assert gateway.infer(rows(1), key=key).status_code == 429
        assert gateway.store.alarms() == []


def test_a_store_that_misses_the_alarm_does_not_change_the_refusal(tmp_path, monkeypatch):
    with serving(tmp_path, make_policy(budgets=Budgets(queries_per_day=1))) as gateway:
        key = gateway.open_account()
        gateway.settled()

        def down(*_args, **_more):
            msg = "no answer"
            raise StoreDown(msg)

        with monkeypatch.context() as patch:
            patch.setattr(gateway.store, "alarm_once", down)
            assert gateway.infer(rows(1), key=key).status_code == 429
        assert gateway.store.alarms() == []
        assert gateway.infer(rows(1), key=key).status_code == 429
        assert len(gateway.store.alarms()) == 1


def test_two_replicas_raise_one_alarm(store):
    store.open_account("a", "standard", 1000.0)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        first = list(
            pool.map(lambda _: store.alarm_once("a", "budget-deny", 1.0, now=1000.0, since=0.0), range(8))
        )
    assert sum(first) == 1
    assert store.alarm_once("a", "budget-throttle", 0.9, now=1000.0, since=0.0)
    assert not store.alarm_once("nobody", "budget-deny", 1.0, now=1000.0, since=0.0)
    assert store.alarm_once("a", "budget-deny", 1.0, now=2000.0, since=1500.0)
    assert len(store.alarms()) == 3


# --- keys -------------------------------------------------------------------------------------------
def recorded(gateway):
    found = gateway.store.keys()
    return {row.kid: row for row in found}


def test_keys_of_a_later_rotation_are_recorded(tmp_path):
    with serving(tmp_path) as gateway:
        first = recorded(gateway)
        assert len(first) == 1
        gateway.gateway.keys.refresh(rotate=True)
        signing = gateway.gateway.keys.signing(gateway.gateway.clock())[0]
        assert signing not in first
        gateway.run(gateway.gateway.tend())
        later = recorded(gateway)
        assert {kid for kid, _, _ in gateway.gateway.keys.public()} <= later.keys()
        assert signing in later
        # The one that was retired early is recorded with its new end.
        (old,) = first
        assert later[old].not_after < first[old].not_after


def test_a_rotation_that_is_due_is_made_and_recorded_where_nobody_asks(tmp_path, monkeypatch):
    with serving(tmp_path, make_policy(puzzle={"rotation_hours": 1.0})) as gateway:
        now = time.time()
        monkeypatch.setattr(gateway.gateway.keys, "_clock", lambda: now + 3500.0)
        gateway.run(gateway.gateway.tend())
        assert len(gateway.store.keys()) == 2


def test_a_key_file_that_is_gone_does_not_stop_the_sweeper(tmp_path, caplog):
    with serving(tmp_path) as gateway:
        path = gateway.gateway.keys.path
        kept = path.read_bytes()
        path.write_bytes(b"{}")
        time.sleep(1.1)  # the file is looked at once a second
        gateway.run(gateway.gateway.tend())
        assert "could not be recorded" in caplog.text
        path.write_bytes(kept)
