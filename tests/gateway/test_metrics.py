from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from asking import Asking
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from assay.gateway.account import AccountState
from assay.gateway.detectors import Alarm
from assay.gateway.metrics import Metrics, metrics_router
from assay.gateway.server.meter import Meter


def read(metrics):
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (s.name, *sorted(s.labels.items())): s.value
        for f in families
        for s in f.samples
        if "_created" not in s.name
    }


def test_every_hook_of_the_server_is_counted():
    metrics = Metrics()
    assert isinstance(metrics, Meter)
    metrics.request("infer", 200, 0.004)
    metrics.request("infer", 428, 0.001)
    metrics.rejected("replayed")
    metrics.issued("query", 17.25)
    metrics.verified("query", 3.5)
    metrics.failed("store")
    metrics.upstream(0.02)
    metrics.alarm(Alarm("a", "prada", 0.8, 100, "throttle"))
    found = read(metrics)
    assert found["assay_request_seconds_count", ("route", "infer"), ("status", "428")] == 1
    assert found["assay_rejected_total", ("reason", "replayed")] == 1
    assert found["assay_challenges_total", ("purpose", "query")] == 1
    assert found["assay_challenge_bits_sum",] == 17.25
    assert found["assay_paid_units_total", ("purpose", "query")] == 3.5
    assert found["assay_failures_total", ("part", "store")] == 1
    assert found["assay_upstream_seconds_sum",] == 0.02
    assert found["assay_detector_alarms_total", ("action", "throttle"), ("detector", "prada")] == 1


def test_a_meter_has_no_hook_that_is_not_counted():
    hooks = {name for name in vars(Meter) if not name.startswith("_")}
    assert hooks <= set(vars(Metrics))


def test_settled_queries_are_counted():
    metrics = Metrics()
    settled = SimpleNamespace(
        units=6.0,
        state=AccountState("a", cusum=3.0, debt=2.0),
        flags=("alarm",),
        duplicates=(True, False, False),
    )
    metrics(SimpleNamespace(n_items=3), None, settled, np.array([-0.4, -50.0, np.nan]))
    found = read(metrics)
    assert found["assay_items_total",] == 3
    assert found["assay_billed_units_total",] == 6
    assert found["assay_repeated_items_total",] == 1
    assert found["assay_unscored_items_total",] == 1
    assert found["assay_item_minus_log_q_count",] == 2
    assert found["assay_item_minus_log_q_bucket", ("le", "0.5")] == 1
    assert found["assay_item_price_units_sum",] == 2
    assert found["assay_account_cusum_sum",] == 3
    assert found["assay_price_alarms_total",] == 1


def test_nobody_can_fill_the_memory_with_labels():
    metrics = Metrics()
    for i in range(500):
        metrics.rejected(f"reason {i}")
    reasons = [key for key in read(metrics) if key[0] == "assay_rejected_total"]
    assert len(reasons) == 65
    assert read(metrics)["assay_rejected_total", ("reason", "other")] == 500 - 64


def test_two_gateways_in_one_process_do_not_meet():
    one, other = Metrics(), Metrics()
    one.failed("store")
    assert ("assay_failures_total", ("part", "store")) not in read(other)


@pytest.mark.parametrize("down", [False, True])
def test_the_page_shows_gauges_and_whether_the_store_is_there(down):
    metrics = Metrics()
    metrics.gauge("settle_queue", "Queries that wait for their price.", lambda: 7.0)

    def ping():
        if down:
            raise RuntimeError
        return 0.002

    app = FastAPI()
    app.include_router(metrics_router(metrics, ping))
    answer = Asking(app).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "assay_settle_queue 7.0" in answer.text
    assert f"assay_store_ping_seconds {-1.0 if down else 0.002}" in answer.text
