"""The calibration: from private data and trusted traffic to a policy and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.gateway.calibrate.measure import LEAST_ANSWER_SECONDS, Timing, doubts_of, time_per_item
from assay.gateway.calibrate.pricing import fit_policy, profiles_of
from assay.gateway.calibrate.profiles import honest_profiles, suspect_pools
from assay.gateway.calibrate.record import CalibrationRecord
from assay.gateway.calibrate.tables import make_record, summary
from assay.gateway.policy import Calibration, EstimatorSource, Policy, save_policy, sign
from assay.gateway.simulation import attack_costs, overheads
from assay.leakage import Estimator, Method
from assay.model import Access, Model, require
from assay.observers import Observer, Observers
from assay.registry import create

__all__ = ["Calibrated", "calibrate", "make_method"]

_LEAST_TRAFFIC = 100
_TASK = "calibrate"


@dataclass(frozen=True)
class Calibrated:
    """A fitted policy with its estimator and the record of how it was found.

    Parameters
    ----------
    policy
        Unsigned; its ``estimator.folder`` is set by `save`.
    estimator
        What the gateway loads to price answers.
    record
        Tables and samples for the report.
    """

    policy: Policy
    estimator: Estimator
    record: CalibrationRecord

    def policy_with(self, folder: str, key: bytes | None = None) -> Policy:
        """Return the policy that names its estimator's folder, signed if there is a key.

        Parameters
        ----------
        folder
            Where the estimator will lie, relative to the policy's file.
        key
            Signing key, at least 16 bytes.
        """
        source = EstimatorSource(kind=self.estimator.name, folder=folder, digest=self.estimator.digest)
        policy = self.policy.model_copy(update={"estimator": source})
        return policy if key is None else sign(policy, key)

    def record_for(self, policy: Policy) -> CalibrationRecord:
        """Return the record with the digest of the policy as it is written, folder and all.

        Parameters
        ----------
        policy
            What `policy_with` returned.
        """
        return replace(self.record, policy_digest=policy.digest)

    def save(self, path: str | Path, *, key: bytes | None = None) -> Policy:
        """Write ``NAME.toml``, ``NAME-estimator/`` and ``NAME-calibration.json``.

        Parameters
        ----------
        path
            Where the policy goes.
        key
            See `policy_with`.

        Returns
        -------
        Policy
            As written.

        Raises
        ------
        InvalidInput
            If an estimator is already there, or the key is too short.
        """
        target = Path(path)
        folder = target.with_name(f"{target.stem}-estimator")
        policy = self.policy_with(folder.name, key)
        self.estimator.save(folder)
        save_policy(policy, target)
        self.record_for(policy).save(target.with_name(f"{target.stem}-calibration.json"))
        return policy


def make_method(name: str, settings: Mapping[str, Any] | None, model: Model) -> Method:
    """Return the estimator called ``name``, read from the answer's scores where it can be.

    Linear heads on the logarithms of scores cost next to nothing on top of the answer that
    the gateway has anyway; heads on features or inputs run the network, or a product with
    every pixel, a second time.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> make_method("heads", {}, TorchModel(build("mlp-4", (4,), 3))).features
    'scores'
    """
    given = dict(settings or {})
    if name == "heads" and "features" not in given:
        given["features"] = "scores" if Access.SCORES in model.access else "inputs"
    return cast("Method", create(name, "leakage", given))


def calibrate(
    model: Model,
    private: Dataset,
    traffic: Dataset,
    *,
    method: Method | None = None,
    others: Mapping[str, Dataset] | None = None,
    basis: Policy | None = None,
    limit: float = 2.0,
    timing: Timing | None = None,
    inference_seconds: float | None = None,
    rows: int = 3000,
    alarm_queries: float = 100_000.0,
    simulated: int = 2_000_000,
    accounts: int = 32,
    queries: int = 10_000,
    rng: int = 0,
    observers: Sequence[Observer] = (),
    checkpoint: str | Path | None = None,
) -> Calibrated:
    """Fit a policy for a served model.

    Parameters
    ----------
    model
        What is served; it must give scores.
    private
        The model's training data with its labels, for the estimator.
    traffic
        Queries of users who are trusted, at least 100, none of them from ``private``.
        Half of them fit, half of them judge. Labels are not used.
    method
        Estimator to fit; linear heads on the scores by default.
    others
        Further suspect inputs, such as images of another task; see
        `assay.gateway.calibrate.profiles.suspect_pools`.
    basis
        Everything that is not fitted: client rate, puzzle, limits, budgets, version.
    limit
        Highest mean overhead of any honest profile: 2 means that inference, pricing and
        solving together take twice the time of inference.
    timing
        Seconds of an answer and of its price where they are known better than by
        measuring here. A measured answer counts as a millisecond at least: over HTTP none
        is faster.
    inference_seconds
        The first of the two alone; pricing is measured.
    rows
        Most queries of each half of the traffic, and of each suspect pool.
    alarm_queries, simulated, accounts, queries
        See `assay.gateway.calibrate.pricing.fit_policy`; ``queries`` is also the size of
        the simulated thefts.
    rng
        Seed.
    observers
        Told about progress.
    checkpoint
        Folder from which an interrupted training of teachers goes on.

    Returns
    -------
    Calibrated
        The policy, the estimator and the record.

    Raises
    ------
    InvalidInput, AccessDenied
        If data and model do not fit, there is too little traffic, nothing suspicious can
        be told from it, or pricing alone costs more than the limit allows.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data import load_data
    >>> from assay.nets import Recipe, build, train
    >>> data = load_data("digits")
    >>> network = build("mlp-64", data.input_shape, data.num_classes)
    >>> recipe = Recipe(epochs=8, optimizer="adam", lr=3e-3)
    >>> _ = train(network, data.subset(range(900)), recipe)
    >>> found = calibrate(
    ...     TorchModel(network),
    ...     data.subset(range(900)),
    ...     data.subset(range(900, 1797)),
    ...     timing=Timing(0.005, 0.0001),
    ...     simulated=200_000,
    ...     accounts=4,
    ...     queries=500,
    ... )
    >>> found.record.worst_honest.overhead <= 2.05, found.estimator.name
    (True, 'heads')
    """
    require(model, Access.SCORES, "calibration")
    traffic = _as_traffic(traffic, model)
    watch = Observers(observers)
    watch.on_start(_TASK, 5)
    chosen = make_method("heads", {}, model) if method is None else method
    estimator = chosen.fit(private, model, rng=rng, observers=observers, checkpoint=checkpoint)
    watch.on_step(_TASK, 1)
    halves = _halves(traffic, rows, rng)
    clock = time_per_item(estimator, model, halves[0].x) if timing is None else timing
    alone = None
    if inference_seconds is not None:
        clock = Timing(inference_seconds, clock.estimator)
    elif timing is None and clock.inference < LEAST_ANSWER_SECONDS:
        alone, clock = clock.inference, Timing(LEAST_ANSWER_SECONDS, clock.estimator)
    profiles = [honest_profiles(half, model.scores(half.x), rng=rng) for half in halves]
    honest, judged = (doubts_of(estimator, model, sets) for sets in profiles)
    pools = suspect_pools(halves[0], others or {}, rows, rng=rng)
    suspects = doubts_of(estimator, model, pools)
    watch.on_step(_TASK, 2)
    start = Policy() if basis is None else basis
    fitted = fit_policy(
        start.model_copy(update={"model": start.model or model.name, "signature": None}),
        honest,
        judged,
        suspects,
        sigma=estimator.sigma,
        timing=clock,
        limit=limit,
        alarm_queries=alarm_queries,
        simulated=simulated,
        accounts=accounts,
        queries=queries,
        rng=rng,
    )
    watch.on_step(_TASK, 3)
    table = overheads(fitted.policy, profiles_of(judged), accounts=accounts, queries=queries, rng=rng)
    watch.on_step(_TASK, 4)
    costs = attack_costs(
        fitted.policy, suspects, judged["typical"], queries=max(200, queries), accounts=accounts, rng=rng
    )
    watch.on_step(_TASK, 5)
    source = EstimatorSource(kind=estimator.name, digest=estimator.digest)
    provenance: dict[str, str | int] = {
        "model": model.digest,
        "private": private.digest,
        "traffic": traffic.digest,
        "rows": len(halves[0]),
        "seed": rng,
        "assay": metadata.version("assay-ml"),
    }
    found = Calibration(
        provenance={**provenance},
        overheads={name: round(row.overhead, 4) for name, row in table.items()},
        ratios={name: summary(cost) for name, cost in costs.items()},
    )
    policy = fitted.policy.model_copy(update={"estimator": source, "calibration": found})
    sizes = {
        "to fit": len(halves[0]),
        "to judge": len(halves[1]),
        "of each suspect pool": max(len(x) for x in suspects.values()),
    }
    record = make_record(
        policy,
        fitted,
        estimator,
        model,
        judged,
        suspects,
        table,
        costs,
        rows=sizes,
        limit=limit,
        rng=rng,
        alone=alone,
    )
    watch.on_end(_TASK, {"overhead": record.worst_honest.overhead})
    return Calibrated(policy, estimator, record)


def _as_traffic(traffic: Dataset, model: Model) -> Dataset:
    """Give traffic the model's classes: its labels are unknown, and so may be how many there are."""
    if traffic.input_shape != tuple(model.input_shape):
        msg = (
            f"the traffic {traffic.name} has inputs of shape {traffic.input_shape}, but {model.name} takes "
            f"{tuple(model.input_shape)}"
        )
        raise InvalidInput(msg)
    if len(traffic) < _LEAST_TRAFFIC:
        msg = f"calibration needs at least {_LEAST_TRAFFIC} trusted queries, got {len(traffic)}"
        raise InvalidInput(msg)
    names = tuple(str(c) for c in range(model.num_classes))
    return Dataset(traffic.x, torch.zeros_like(traffic.y), names, traffic.value_range, traffic.name)


def _halves(traffic: Dataset, rows: int, rng: int) -> tuple[Dataset, Dataset]:
    order = np.random.default_rng([rng, 11]).permutation(len(traffic))
    middle = len(order) // 2
    return (
        traffic.subset(order[:middle][:rows], "traffic to fit"),
        traffic.subset(order[middle:][:rows], "traffic to judge"),
    )
