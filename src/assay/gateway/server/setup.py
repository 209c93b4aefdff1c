"""From a policy and a few addresses to a gateway that is ready to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import EvidenceTampered, InvalidInput
from assay.gateway.keys import Clock, KeyRing
from assay.gateway.policy import Policy, check_step
from assay.gateway.server.gateway import Gateway
from assay.gateway.store.base import KeyRow
from assay.gateway.store.sql import SqlStore

if TYPE_CHECKING:
    from assay.gateway.server.meter import Meter
    from assay.gateway.server.settle import Watcher
    from assay.gateway.store.base import Store
    from assay.gateway.upstream.base import Upstream
    from assay.leakage.base import Estimator
    from assay.model import Model

__all__ = ["open_gateway"]

_LEAST_OVERLAP = 2 * 3600.0
_PATIENCE = 20.0


def open_gateway(
    policy: Policy,
    *,
    upstream: Upstream | str,
    store: str = "sqlite:///gateway.db",
    keys: str | Path = "gateway.keys",
    folder: Path | None = None,
    model: Model | None = None,
    meter: Meter | None = None,
    recorded: bool = True,
) -> Gateway:
    """Open store, keys, estimator, defences and detectors of a policy.

    Parameters
    ----------
    policy
        In force from now on.
    upstream
        A server's address, or anything else that answers.
    store
        ``sqlite:///FILE`` or ``postgresql://...``.
    keys
        Key file; made if it is not there.
    folder
        Where the policy file lies; its estimator's folder is relative to it.
    model
        The served model, where it is served here; estimators that read it need it.
    meter
        Counts what happens.
    recorded
        Whether the store shall remember the policy, and refuse one that leads backwards.

    Raises
    ------
    InvalidInput
        If something does not fit the policy, or the policy not what was in force before.
    StoreDown
        If the store does not answer.
    """
    clock = Clock()
    puzzle, pricing = policy.puzzle, policy.pricing
    # What a key has signed must be accepted until it expires, however hard it is to solve.
    longest = max(puzzle.expiry_seconds, _PATIENCE * 2.0**puzzle.max_bits / pricing.expected_rate_hz)
    ring = KeyRing(
        keys,
        rotation=puzzle.rotation_hours * 3600.0,
        overlap=max(_LEAST_OVERLAP, longest + 2 * puzzle.skew_seconds),
        clock=clock,
    )
    books = SqlStore(store)
    try:
        honoured = _take_force(books, policy, ring, clock()) if recorded else frozenset()
        estimator = _estimator(policy, folder or Path(), model)
        watchers: list[Watcher] = []
        answers = watch = None
        if policy.answers:
            from assay.gateway.answers import Answers

            answers = Answers(policy.answers, ring.secret("answers"))
            for name, digest in answers.commitments.items():
                books.note("commitment", now=clock(), defence=name, digest=digest)
        if policy.detectors:
            from assay.gateway.detectors.watch import Watch
            from assay.gateway.server.watchers import DetectorWatcher

            watch = Watch(policy.detectors, ring.secret("detectors"))
            watchers.append(DetectorWatcher(watch, books, clock, on_alarm=getattr(meter, "alarm", None)))
        if callable(meter):
            watchers.append(meter)
        return Gateway(
            policy,
            _upstream(upstream, policy),
            books,
            ring,
            estimator=estimator,
            answers=answers,
            watchers=watchers,
            meter=meter,
            honoured=honoured,
            watch=watch,
            clock=clock,
        )
    except BaseException:
        books.close()
        raise


def _upstream(upstream: Upstream | str, policy: Policy) -> Upstream:
    if not isinstance(upstream, str):
        return upstream
    import os

    from assay.gateway.upstream.proxy import ProxyUpstream

    return ProxyUpstream(
        upstream,
        timeout=policy.limits.upstream_seconds,
        concurrency=policy.limits.concurrency,
        token=os.environ.get("ASSAY_UPSTREAM_TOKEN"),
    )


def _take_force(store: Store, policy: Policy, ring: KeyRing, now: float) -> frozenset[int]:
    """Record policy and keys; return the versions before it whose challenges are still honoured."""
    before = [row for row in store.policies() if row.version != policy.version]
    if before and before[0].version < policy.version:
        check_step(Policy.model_validate_json(before[0].text), policy)
    text = json.dumps(policy.model_dump(mode="json", exclude={"signature"}), sort_keys=True)
    store.record_policy(policy.version, text, now=now)
    for kid, not_before, not_after in ring.public():
        store.record_key(KeyRow(kid, not_before, not_after))
    return frozenset(row.version for row in before[:1])


def _estimator(policy: Policy, folder: Path, model: Model | None) -> Estimator | None:
    source = policy.estimator
    if not source.folder:
        return None
    from assay.leakage.base import load_estimator

    estimator = load_estimator(folder / source.folder, model)
    if source.digest and estimator.digest != source.digest:
        msg = f"the estimator in {folder / source.folder} is not the one that the policy was calibrated with"
        raise EvidenceTampered(msg)
    if estimator.sigma != policy.pricing.sigma:
        msg = (
            f"the estimator was fitted with sigma = {estimator.sigma:g}, but the policy's prices are for "
            f"sigma = {policy.pricing.sigma:g}; calibrate again"
        )
        raise InvalidInput(msg)
    return estimator
