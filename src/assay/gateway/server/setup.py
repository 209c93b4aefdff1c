"""From a policy and a few addresses to a gateway that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import EvidenceTampered, InvalidInput
from assay.gateway.keys import Clock, KeyRing
from assay.gateway.policy import Policy, check_step
from assay.gateway.server.gateway import Gateway
from assay.gateway.server.parts import Parts
from assay.gateway.server.records import KeyRecorder, key_times, record_commitments, record_policy
from assay.gateway.store.sql import SqlStore

if TYPE_CHECKING:
    import ssl

    from assay.gateway.server.meter import Meter
    from assay.gateway.server.settle import Watcher
    from assay.gateway.store.base import Store
    from assay.gateway.upstream.base import Upstream
    from assay.leakage.base import Estimator
    from assay.model import Model

__all__ = ["open_gateway"]


def open_gateway(
    policy: Policy,
    *,
    upstream: Upstream | str,
    store: str = "sqlite:///gateway.db",
    keys: str | Path = "gateway.keys",
    folder: Path | None = None,
    file: Path | None = None,
    model: Model | None = None,
    meter: Meter | None = None,
    recorded: bool = True,
    ahead: bool = True,
    tls: ssl.SSLContext | None = None,
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
    file
        The policy file, in place of ``folder``. The estimator may also lie beside what it links
        to; links are followed anew for every policy, since Kubernetes replaces whole folders.
    model
        The served model, where it is served here; estimators that read it need it.
    meter
        Counts what happens.
    recorded
        Whether the store shall remember the policy, and refuse one that leads backwards.
    ahead
        See `Gateway`.
    tls
        How to connect to an address over ``https://``.

    Raises
    ------
    InvalidInput
        If something does not fit the policy, or the policy not what was in force before.
    StoreDown
        If the store does not answer.
    """
    clock = Clock()
    rotation, overlap = key_times(policy)
    ring = KeyRing(keys, rotation=rotation, overlap=overlap, clock=clock)
    books = SqlStore(store)
    opener = _Opener(ring, books, clock, folder or Path(), file, model, meter)
    try:
        honoured = _check_step(books, policy) if recorded else frozenset[int]()
        parts = replace(opener(policy), honoured=honoured)
        source = _upstream(upstream, policy, tls)
        (record_policy if recorded else record_commitments)(books, parts, now=clock())
        KeyRecorder(books, ring, clock).record()
    except BaseException:
        books.close()
        raise
    return Gateway(parts, source, books, ring, meter=meter, clock=clock, make_parts=opener, ahead=ahead)


@dataclass(frozen=True)
class _Opener:
    """Opens what a policy names."""

    ring: KeyRing
    books: SqlStore
    clock: Clock
    folder: Path
    file: Path | None
    model: Model | None
    meter: Meter | None

    def __call__(self, policy: Policy) -> Parts:
        """Return the parts of a policy."""
        watchers: list[Watcher] = []
        answers = watch = None
        if policy.answers:
            from assay.gateway.answers import Answers

            answers = Answers(policy.answers, self.ring.secret("answers"))
        if policy.detectors:
            from assay.gateway.detectors.watch import Watch
            from assay.gateway.server.watchers import DetectorWatcher

            watch = Watch(policy.detectors, self.ring.secret("detectors"))
            told = getattr(self.meter, "alarm", None)
            watchers.append(DetectorWatcher(watch, self.books, self.clock, on_alarm=told))
        if callable(self.meter):
            watchers.append(self.meter)
        estimator = _estimator(policy, self._beside(policy), self.model)
        return Parts(policy, estimator, answers, watch, tuple(watchers))

    def _beside(self, policy: Policy) -> Path:
        if self.file is None:
            return self.folder
        places = (self.file.absolute().parent, self.file.resolve().parent)
        return next((place for place in places if (place / policy.estimator.folder).is_dir()), places[0])


def _upstream(upstream: Upstream | str, policy: Policy, tls: ssl.SSLContext | None) -> Upstream:
    if not isinstance(upstream, str):
        return upstream
    import os

    from assay.gateway.upstream.proxy import ProxyUpstream

    return ProxyUpstream(
        upstream,
        timeout=policy.limits.upstream_seconds,
        concurrency=policy.limits.concurrency,
        token=os.environ.get("ASSAY_UPSTREAM_TOKEN"),
        tls=tls,
    )


def _check_step(store: Store, policy: Policy) -> frozenset[int]:
    """Refuse a policy that leads backwards; return the version before it, which is honoured."""
    before = [row for row in store.policies() if row.version != policy.version]
    if before and before[0].version < policy.version:
        check_step(Policy.model_validate_json(before[0].text), policy)
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
