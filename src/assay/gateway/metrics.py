"""What a gateway measures about itself, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from assay.gateway.server.meter import Meter

if TYPE_CHECKING:
    from fastapi import APIRouter
    from numpy.typing import NDArray

    from assay.gateway.detectors.watch import Alarm
    from assay.gateway.server.replies import Reply
    from assay.gateway.server.settle import Served
    from assay.gateway.store.base import Settled

__all__ = ["Metrics", "metrics_router"]

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_UNITS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0, 1000.0)
_BITS = (8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
_LOG_Q = (0.2, 0.5, 0.7, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_CUSUM = (0.0, 1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 18.0, 30.0)
# Whoever can choose a label's value must not be able to fill the memory of every Prometheus.
_MOST_VALUES = 64


class Metrics(Meter):
    """Counters, histograms and gauges in a registry of their own.

    Prices, costs and sums of evidence are counted over all accounts together: a metric per
    account would grow for ever and tell whoever reads metrics what each customer does.

    Parameters
    ----------
    registry
        Where they are kept; a new one unless given, so that two gateways in one process
        do not meet.

    Examples
    --------
    >>> metrics = Metrics()
    >>> metrics.rejected("replayed")
    >>> b'assay_rejected_total{reason="replayed"} 1.0' in metrics.render()
    True
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._values: dict[str, set[str]] = {}
        r = self.registry
        self._requests = Histogram(
            "assay_request_seconds", "Time to answer.", ("route", "status"), registry=r, buckets=_SECONDS
        )
        self._upstream = Histogram(
            "assay_upstream_seconds", "Time of the server behind.", registry=r, buckets=_SECONDS
        )
        self._rejected = Counter("assay_rejected", "Requests and proofs refused.", ("reason",), registry=r)
        self._issued = Counter("assay_challenges", "Challenges handed out.", ("purpose",), registry=r)
        self._bits = Histogram("assay_challenge_bits", "Their difficulty.", registry=r, buckets=_BITS)
        self._verified = Counter("assay_proofs", "Proofs that were claimed.", ("purpose",), registry=r)
        self._paid = Counter("assay_paid_units", "Work that they paid.", ("purpose",), registry=r)
        self._failed = Counter("assay_failures", "Own parts that did not work.", ("part",), registry=r)
        self._items = Counter("assay_items", "Items answered and billed.", registry=r)
        self._billed = Counter("assay_billed_units", "Work that they cost.", registry=r)
        self._repeated = Counter(
            "assay_repeated_items", "Items asked before by the same account.", registry=r
        )
        self._unscored = Counter("assay_unscored_items", "Items priced without an estimate.", registry=r)
        self._price = Histogram(
            "assay_item_price_units", "Mean price of a request's items.", registry=r, buckets=_UNITS
        )
        self._cost = Histogram("assay_item_minus_log_q", "Minus log q of items.", registry=r, buckets=_LOG_Q)
        self._cusum = Histogram(
            "assay_account_cusum", "Evidence against the asking account.", registry=r, buckets=_CUSUM
        )
        self._debt = Histogram(
            "assay_account_debt_units", "Debt of the asking account.", registry=r, buckets=_UNITS
        )
        self._crossed = Counter(
            "assay_price_alarms", "Accounts whose evidence crossed the threshold.", registry=r
        )
        self._alarms = Counter(
            "assay_detector_alarms", "Alarms of detectors.", ("detector", "action"), registry=r
        )
        self._budgets = Counter(
            "assay_budget_alarms", "Accounts that met a budget, once a day each.", ("action",), registry=r
        )
        self._store = Gauge(
            "assay_store_ping_seconds", "Round trip to the store; -1 while it is down.", registry=r
        )

    # --- hooks of the server ------------------------------------------------------------
    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(self._bounded("route", route), str(status)).observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a refused proof or request."""
        self._rejected.labels(self._bounded("reason", reason)).inc()

    def issued(self, purpose: str, bits: float) -> None:
        """Count a challenge that was handed out."""
        self._issued.labels(self._bounded("purpose", purpose)).inc()
        self._bits.observe(bits)

    def verified(self, purpose: str, units: float) -> None:
        """Count a proof that was claimed."""
        purpose = self._bounded("purpose", purpose)
        self._verified.labels(purpose).inc()
        self._paid.labels(purpose).inc(max(units, 0.0))

    def over_budget(self, action: str) -> None:
        """Count an account that has met a budget."""
        self._budgets.labels(self._bounded("action", action)).inc()

    def failed(self, part: str) -> None:
        """Count something of ours that did not work."""
        self._failed.labels(self._bounded("part", part)).inc()

    def upstream(self, seconds: float) -> None:
        """Count an answer of the server behind."""
        self._upstream.observe(seconds)

    # --- what is known after settlement ---------------------------------------------------
    def __call__(
        self, served: Served, reply: Reply | None, settled: Settled, log_q: NDArray[np.float64]
    ) -> None:
        """Count one settled query; a watcher of `assay.gateway.server.settle`."""
        del reply
        self._items.inc(served.n_items)
        self._billed.inc(max(settled.units, 0.0))
        self._repeated.inc(sum(settled.duplicates))
        self._unscored.inc(int(np.isnan(log_q).sum()))
        self._price.observe(settled.units / max(served.n_items, 1))
        for value in log_q[np.isfinite(log_q)]:
            self._cost.observe(-float(value))
        self._cusum.observe(settled.state.cusum)
        self._debt.observe(settled.state.debt)
        if "alarm" in settled.flags:
            self._crossed.inc()

    def alarm(self, alarm: Alarm) -> None:
        """Count an alarm of a detector."""
        self._alarms.labels(self._bounded("detector", alarm.detector), alarm.action).inc()

    # --- what is read when somebody looks ---------------------------------------------------
    def gauge(self, name: str, words: str, read: Callable[[], float]) -> None:
        """Show a number that is read at every scrape, such as the length of a queue."""
        Gauge(f"assay_{name}", words, registry=self.registry).set_function(read)

    def stored(self, seconds: float | None) -> None:
        """Take the store's round trip, or None while it does not answer."""
        self._store.set(-1.0 if seconds is None else seconds)

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def _bounded(self, label: str, value: str) -> str:
        known = self._values.setdefault(label, set())
        if value in known:
            return value
        if len(known) >= _MOST_VALUES:
            return "other"
        known.add(value)
        return value


def metrics_router(metrics: Metrics, ping: Callable[[], float] | None = None) -> APIRouter:
    """Return the page ``/metrics``.

    Parameters
    ----------
    metrics
        What it shows.
    ping
        Measures the store's round trip, seconds; asked at every scrape. What it raises
        counts as a store that is down.
    """
    from fastapi import APIRouter, Response

    router = APIRouter()

    # Not a coroutine: a store that hangs then holds one thread and not the event loop.
    @router.get("/metrics", include_in_schema=False)
    def show() -> Response:
        if ping is not None:
            try:
                metrics.stored(ping())
            except Exception:  # noqa: BLE001 - metrics must show that something is down, whatever it is
                metrics.stored(None)
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
