"""The tables of a calibration: honest bills, attackers' plans, and what must be said beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.gateway.calibrate.fit import INDISTINCT
from assay.gateway.calibrate.pricing import Fitted
from assay.gateway.calibrate.profiles import PROFILES
from assay.gateway.calibrate.record import AttackerRow, CalibrationRecord, HonestRow, PlanRow
from assay.gateway.calibrate.samples import bills, histograms, paths
from assay.gateway.policy import Policy
from assay.gateway.pricing import item_units
from assay.gateway.simulation import AttackCost, Overhead, Plan, volume_costs
from assay.leakage import Estimator
from assay.model import Model

__all__ = ["make_record", "summary"]

Floats = NDArray[np.float64]

LEAST_RATIO, LEAST_SINGLE = 3.0, 50.0
_ALWAYS = (
    (
        "Theft with inputs of the task cannot be priced away. Such queries look like honest ones and pay "
        "the honest price; only budgets, label-only answers and evidence in the model help against them."
    ),
    (
        "A thief who knows beforehand which queries are cheap asks those, and pays like an honest user with "
        "easy questions. Prices are shown late and rounded, but a good copy knows them."
    ),
    "Prices are scores of leakage, not a privacy guarantee: answers are given without noise.",
)


def summary(cost: AttackCost) -> dict[str, float]:
    """Return the numbers that stay in the policy file; infinities do not fit into one.

    Parameters
    ----------
    cost
        What one pool pays.
    """
    numbers = {
        "stateless": cost.stateless,
        "single": cost.single,
        "after_100": cost.after_100,
        "split": cost.split.ratio,
        "padded": cost.padded.ratio,
        "best": cost.best.ratio,
    }
    return {name: round(value, 4) for name, value in numbers.items() if np.isfinite(value)}


def make_record(
    policy: Policy,
    fitted: Fitted,
    estimator: Estimator,
    model: Model,
    judged: Mapping[str, Floats],
    suspects: Mapping[str, Floats],
    table: Mapping[str, Overhead],
    costs: Mapping[str, AttackCost],
    *,
    rows: dict[str, int],
    limit: float,
    rng: int,
    alone: float | None = None,
) -> CalibrationRecord:
    """Put together what a calibration found.

    Parameters
    ----------
    policy, fitted, estimator, model
        What was fitted, and for what.
    judged, suspects
        log q of the honest profiles and of the suspect pools.
    table, costs
        What simulations found about them.
    rows, limit, rng
        See `assay.gateway.calibrate.record.CalibrationRecord`.
    alone
        Measured seconds of the model's answer where a longer time was taken instead.
    """
    pricing = policy.pricing
    everything = {**judged, **suspects}
    ratios = fitted.order_ratios[pricing.alpha0]
    unit = _mean_cost(policy, judged["typical"])
    attackers = tuple(
        AttackerRow(
            name,
            ratios[name],
            ratios[name] >= INDISTINCT,
            cost.stateless,
            cost.bound,
            cost.single,
            cost.after_100,
            cost.detected,
            _plan(cost.split),
            _plan(cost.padded),
            _plan(cost.best),
            cost.cheap_half,
        )
        for name, cost in costs.items()
    )
    counts, paid = bills(policy, everything, rng=rng)
    return CalibrationRecord(
        model=model.name,
        model_digest=model.digest,
        estimator=estimator.name,
        estimator_digest=estimator.digest,
        policy_digest=policy.digest,
        policy_version=policy.version,
        facts=_short_facts(estimator.facts),
        limit=limit,
        rate_hz=pricing.expected_rate_hz,
        inference_seconds=pricing.inference_seconds,
        estimator_seconds=pricing.estimator_seconds,
        hashes_per_unit=pricing.hashes_per_unit,
        rows=rows,
        alpha0=pricing.alpha0,
        sigma=pricing.sigma,
        beta=pricing.beta,
        order_ratios={f"{order:g}": dict(found) for order, found in fitted.order_ratios.items()},
        threshold=pricing.threshold,
        ceiling=pricing.cusum_ceiling,
        honest=tuple(
            HonestRow(
                name,
                PROFILES[name],
                _mean_cost(policy, judged[name]) / max(unit, 1e-300),
                row.units,
                row.overhead,
                row.worst,
                row.alarms,
                fitted.intervals.get(name, float("nan")),
            )
            for name, row in table.items()
        ),
        attackers=attackers,
        prices=histograms({name: item_units(policy, x) for name, x in everything.items()}, log=True),
        doubts=histograms({name: -np.sqrt(-x) for name, x in everything.items()}),
        paths=paths(policy, everything, rng=rng),
        bills=paid,
        bill_queries=counts,
        notes=_notes(attackers, table, limit) + _by_volume(policy) + _assumed(policy, alone),
        seed=rng,
        versions={"assay": metadata.version("assay-ml"), "torch": str(torch.__version__)},
    )


def _mean_cost(policy: Policy, log_q: Floats) -> float:
    pricing = policy.pricing
    price = item_units(policy, log_q) / pricing.base_units - 1.0
    return float(price.mean()) * pricing.mean_cost / max(pricing.beta, 1e-300)


def _plan(plan: Plan) -> PlanRow:
    return PlanRow(plan.ratio, plan.useful, plan.padding)


def _short_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what is one number or word; lists of every teacher stay with the estimator."""
    return {name: value for name, value in facts.items() if isinstance(value, str | int | float | bool)}


def _notes(attackers: Sequence[AttackerRow], table: Mapping[str, Overhead], limit: float) -> tuple[str, ...]:
    """Say what the numbers do not: limits that no calibration removes."""
    notes = [*_ALWAYS]
    alike = [row.name for row in attackers if not row.told_apart]
    if alike:
        notes.append(
            f"This estimator does not tell {', '.join(alike)} from honest traffic: they pay about what "
            "honest users pay."
        )
    weak = [row for row in attackers if row.told_apart and row.best.ratio < LEAST_RATIO]
    if weak:
        names = ", ".join(row.name for row in weak)
        oracle = " It needs a thief who knows the account's sum and the score of every query beforehand."
        known = all(math.isnan(row.best.padding) for row in weak)
        notes.append(
            f"The cheapest plan for {names} costs less than {LEAST_RATIO:g} honest queries a useful one."
            + (oracle if known else "")
        )
    slow = [row.name for row in attackers if row.told_apart and row.after_100 < LEAST_SINGLE]
    if slow:
        notes.append(
            f"On one account, {', '.join(slow)} do not pay {LEAST_SINGLE:g} times as much after 100 queries "
            "yet: their alarm comes later."
        )
    over = [name for name, row in table.items() if row.worst > limit]
    if over:
        notes.append(
            f"One account in twenty of the profiles {', '.join(over)} pays more than {limit:g} times plain "
            "inference."
        )
    return tuple(notes)


def _by_volume(policy: Policy) -> tuple[str, ...]:
    """Say what the tables leave out, and what volume does to a theft that nothing else prices."""
    volume = policy.pricing.volume
    if not volume.free_items:
        return ()
    queries = int(10 * volume.free_items)
    one, many = (row.ratio for row in volume_costs(policy, queries, (1, 10)))
    sentence = (
        f"Prices rise with volume from item {volume.free_items:,.0f} of a customer on, which the tables "
        f"leave out. A theft of {queries:,} queries with inputs of the task costs {one:.1f} honest queries "
        f"each from one customer and {many:.1f} from ten: as much as telling customers apart is worth."
    )
    return (sentence,)


def _assumed(policy: Policy, alone: float | None) -> tuple[str, ...]:
    if alone is None:
        return ()
    taken = policy.pricing.inference_seconds
    sentence = (
        f"An answer counts as {1e3 * taken:g} ms, since none is faster over HTTP; the model alone takes "
        f"{1e3 * alone:.2g} ms. Say how long answers take in production with --inference-seconds."
    )
    return (sentence,)
