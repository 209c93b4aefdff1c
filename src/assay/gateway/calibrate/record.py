"""What a calibration found, as a record: enough to draw the report and to check the targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from assay.result import Record

__all__ = ["AttackerRow", "CalibrationRecord", "Histogram", "HonestRow", "PlanRow"]


@dataclass(frozen=True)
class HonestRow(Record):
    """The bill of one honest profile on traffic that nothing was fitted on.

    Parameters
    ----------
    name, about
        Profile.
    cost_ratio
        Mean leakage cost over that of typical traffic.
    units
        Mean units a query, deposit included.
    overhead, worst
        (inference + pricing + solving) / inference: mean over accounts, 95th percentile.
    alarms
        Share of accounts that raised an alarm.
    interval
        Mean queries between alarms.
    """

    name: str
    about: str
    cost_ratio: float
    units: float
    overhead: float
    worst: float
    alarms: float
    interval: float


@dataclass(frozen=True)
class PlanRow(Record):
    """A way to steal: price of a useful query, useful queries an account, padding a useful query.

    ``padding`` is not a number for the padder that knows the account's sum and every score.
    """

    ratio: float
    useful: int
    padding: float


@dataclass(frozen=True)
class AttackerRow(Record):
    """What one pool of suspect queries pays, in average honest queries.

    Parameters
    ----------
    name
        Pool.
    cost_ratio
        Mean leakage cost over that of typical traffic.
    told_apart
        Whether the pool costs enough to be called suspect at all. A pool that does not
        looks like honest traffic to this estimator, and pays like it.
    stateless, bound, single, after_100, detected, split, padded, best, cheap_half
        See `assay.gateway.simulation.AttackCost`.
    """

    name: str
    cost_ratio: float
    told_apart: bool
    stateless: float
    bound: float
    single: float
    after_100: float
    detected: float
    split: PlanRow
    padded: PlanRow
    best: PlanRow
    cheap_half: float


@dataclass(frozen=True)
class Histogram(Record):
    """Shares of the queries of one kind in bins.

    Parameters
    ----------
    name
        Profile or pool.
    edges
        Bin edges ``[b + 1]``.
    shares
        Shares ``[b]``.
    """

    name: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class CalibrationRecord(Record):
    """What was fitted, on what, and what it gives in simulation.

    Parameters
    ----------
    model, model_digest, estimator, estimator_digest, policy_digest, policy_version
        What belongs together.
    facts
        What fitting the estimator measured.
    limit
        Overhead that honest users may have.
    rate_hz, inference_seconds, estimator_seconds
        Client's hashes a second; the server's time a query, measured or given.
    hashes_per_unit
        Work in an average honest query.
    rows
        Queries used: traffic to fit, traffic to judge, of each suspect pool.
    alpha0, sigma, beta
        Order and noise of the cost, weight of the cost in the price.
    order_ratios
        Cost ratio of each pool at each candidate order.
    threshold, ceiling
        Where the sum raises the alarm, and where it stops.
    honest, attackers
        The two tables.
    prices
        Distribution of the price in units, before multipliers.
    doubts
        Distribution of log q.
    paths
        Sample paths of the sum, ``[queries]`` each, by profile or pool.
    bills
        Mean units paid after so many queries on one account, by profile or pool.
    bill_queries
        The numbers of queries of ``bills``.
    notes
        What the owner must know.
    seed, versions, schema
        Provenance.
    """

    model: str
    model_digest: str
    estimator: str
    estimator_digest: str
    policy_digest: str
    policy_version: int
    facts: dict[str, Any]
    limit: float
    rate_hz: float
    inference_seconds: float
    estimator_seconds: float
    hashes_per_unit: float
    rows: dict[str, int]
    alpha0: float
    sigma: float
    beta: float
    order_ratios: dict[str, dict[str, float]]
    threshold: float
    ceiling: float
    honest: tuple[HonestRow, ...]
    attackers: tuple[AttackerRow, ...]
    prices: tuple[Histogram, ...] = ()
    doubts: tuple[Histogram, ...] = ()
    paths: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    bills: dict[str, tuple[float, ...]] = field(default_factory=dict)
    bill_queries: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = 1

    @property
    def worst_honest(self) -> HonestRow:
        """The honest profile with the largest mean overhead."""
        return max(self.honest, key=lambda row: row.overhead)

    @property
    def suspects(self) -> tuple[AttackerRow, ...]:
        """The pools that can be told apart, cheapest theft first."""
        return tuple(sorted((r for r in self.attackers if r.told_apart), key=lambda row: row.best.ratio))

    @property
    def disguised(self) -> tuple[AttackerRow, ...]:
        """The pools that look like honest traffic."""
        return tuple(row for row in self.attackers if not row.told_apart)
