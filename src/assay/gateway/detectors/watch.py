"""The detectors of a policy at work: state in the store, alarms to the operator."""

from __future__ import annotations

import dataclasses
import hmac
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from assay.errors import InvalidInput
from assay.gateway.detectors.base import Detector, Look, Seen
from assay.gateway.detectors.coverage import Coverage, share
from assay.gateway.detectors.prada import Prada
from assay.gateway.policy_parts import Detector as DetectorEntry
from assay.registry import configure, nearest

__all__ = ["DETECTORS", "Action", "Alarm", "Memory", "Watch", "state_name"]

DETECTORS: Mapping[str, type[Detector]] = {Prada.name: Prada, Coverage.name: Coverage}
"""Detectors by the name that a policy gives."""

Action = Literal["flag", "throttle", "deny"]
_TAG = b"assay/detectors/1\0"
_ACCOUNTS = 10_000
_TIER = {"throttle": "throttled", "deny": "barred"}


class Memory(Protocol):
    """What the watch needs of a store; `assay.gateway.store.base.Store` has more."""

    def amend(
        self, account_id: str, name: str, change: Callable[[bytes | None], bytes | None], *, now: float
    ) -> bytes | None:
        """Change a named piece of the account's state under its lock."""
        ...

    def alarm(self, account_id: str, kind: str, value: float, *, now: float, **detail: object) -> None:
        """Record an alarm."""
        ...

    def set_tier(self, account_id: str, tier: str, *, now: float, reason: str = "") -> bool:
        """Move an account to another tier."""
        ...


@dataclass(frozen=True)
class Alarm:
    """A detector fired for an account.

    Attributes
    ----------
    account, detector
        Who, and by which detector.
    score
        In the detector's own measure.
    queries
        Queries of the account that it had seen.
    action
        What the policy says should be done.
    """

    account: str
    detector: str
    score: float
    queries: int
    action: Action


class Watch:
    """Shows every account's queries to the detectors of the policy.

    Meant for a thread beside the request path. Safe to call from several threads and
    replicas: an account's state is changed under its lock in the store.

    Parameters
    ----------
    entries
        The policy's detectors. A ``key`` that is left out is derived from ``secret``.
    secret
        At least 16 bytes that clients do not know.

    Raises
    ------
    InvalidInput
        For an unknown detector, unknown settings, or the same detector twice.

    Examples
    --------
    >>> watch = Watch([DetectorEntry(name="coverage")], bytes(32))
    >>> watch.coverage("somebody")
    0.0
    """

    def __init__(self, entries: Sequence[DetectorEntry], secret: bytes) -> None:
        self._detectors: list[tuple[Detector, Action]] = []
        for entry in entries:
            kind = DETECTORS.get(entry.name)
            if kind is None:
                raise InvalidInput(nearest(entry.name, list(DETECTORS), "detector"))
            if any(entry.name == detector.name for detector, _ in self._detectors):
                msg = f"the detector {entry.name} is configured twice"
                raise InvalidInput(msg)
            self._detectors.append((_keyed(configure(kind, entry.settings), secret), entry.action))
        self._covered: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._detectors)

    def look(self, store: Memory, account: str, seen: Seen, *, now: float) -> list[Alarm]:
        """Show queries to every detector; record and return the alarms that are due.

        An account is moved to the tier ``throttled`` or ``barred`` where the policy says so.

        Parameters
        ----------
        store
            Holds the states.
        account
            Who asked.
        seen
            What was asked, after it was answered.
        now
            Seconds since the epoch.

        Raises
        ------
        StoreDown
            If the store does not answer; nothing was learnt then.
        """
        alarms = []
        for detector, action in self._detectors:
            look = _amended(store, account, detector, seen, now)
            if isinstance(detector, Coverage):
                self._remember(account, look.score)
            if not look.fired:
                continue
            alarms.append(Alarm(account, detector.name, look.score, look.queries, action))
            detail = {**look.detail, "queries": look.queries, "action": action}
            store.alarm(account, detector.name, look.score, now=now, **detail)
            if action in _TIER:
                store.set_tier(account, _TIER[action], now=now, reason=f"alarm of {detector.name}")
        return alarms

    def coverage(self, account: str) -> float:
        """Return the share of input space that an account has covered, as last seen here."""
        with self._lock:
            return self._covered.get(account, 0.0)

    def recall(self, account: str, state: bytes | None) -> float:
        """Take over a stored coverage state, as after a restart; return its share."""
        covered = share(state)
        self._remember(account, covered)
        return covered

    def _remember(self, account: str, covered: float) -> None:
        with self._lock:
            self._covered[account] = covered
            self._covered.move_to_end(account)
            while len(self._covered) > _ACCOUNTS:
                self._covered.popitem(last=False)


def state_name(detector: str) -> str:
    """Return the name under which the store keeps a detector's state.

    Examples
    --------
    >>> state_name("prada")
    'detector/prada'
    """
    return f"detector/{detector}"


def _amended(store: Memory, account: str, detector: Detector, seen: Seen, now: float) -> Look:
    found: list[Look] = []

    def change(state: bytes | None) -> bytes:
        # A store may run this again after a conflict; the last one counts.
        found.append(detector.look(state, seen))
        return found[-1].state

    store.amend(account, state_name(detector.name), change, now=now)
    return found[-1]


def _keyed(detector: Detector, secret: bytes) -> Detector:
    if getattr(detector, "key", None) != "":
        return detector
    key = hmac.digest(secret, _TAG + detector.name.encode(), "sha256").hex()
    return dataclasses.replace(detector, key=key)  # type: ignore[type-var]  # every detector is a dataclass
