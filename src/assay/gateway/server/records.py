"""What the store is told about policies and keys: never a secret, always enough to look up later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from assay.gateway.store.base import KeyRow

if TYPE_CHECKING:
    from assay.gateway.keys import Clock, KeyRing
    from assay.gateway.policy import Policy
    from assay.gateway.server.parts import Parts
    from assay.gateway.store.base import Store

__all__ = ["KeyRecorder", "key_times", "record_commitments", "record_policy"]

_LEAST_OVERLAP = 2 * 3600.0
_PATIENCE = 20.0


def record_policy(store: Store, parts: Parts, *, now: float) -> None:
    """Remember a policy as the one in force, and what its defences commit to.

    Raises
    ------
    InvalidInput
        If the store knows a newer one, or another one of this version.
    """
    policy = parts.policy
    text = json.dumps(policy.model_dump(mode="json", exclude={"signature"}), sort_keys=True)
    store.record_policy(policy.version, text, now=now)
    record_commitments(store, parts, now=now)


def record_commitments(store: Store, parts: Parts, *, now: float) -> None:
    """Write into the journal what marking defences commit to, before any dispute."""
    if parts.answers is not None:
        for name, digest in parts.answers.commitments.items():
            store.note("commitment", now=now, defence=name, digest=digest)


def key_times(policy: Policy) -> tuple[float, float]:
    """Return for how many seconds keys sign, and for how many they are accepted afterwards.

    What a key has signed must be accepted until it expires, however hard it is to solve.

    Examples
    --------
    >>> from assay.gateway.policy import Policy
    >>> key_times(Policy())
    (86400.0, 7200.0)
    """
    puzzle, rate = policy.puzzle, policy.pricing.expected_rate_hz
    longest = max(puzzle.expiry_seconds, _PATIENCE * 2.0**puzzle.max_bits / rate)
    return puzzle.rotation_hours * 3600.0, max(_LEAST_OVERLAP, longest + 2 * puzzle.skew_seconds)


class KeyRecorder:
    """Tells the store the names and times of keys, those of later rotations included.

    Parameters
    ----------
    store
        Where they are recorded.
    keys
        Whose keys.
    clock
        Seconds since 1970.
    """

    def __init__(self, store: Store, keys: KeyRing, clock: Clock) -> None:
        self._store, self._keys, self._clock = store, keys, clock
        self._known: set[tuple[str, float, float]] = set()

    def record(self) -> int:
        """Record the keys that are new or have other times than before; return how many.

        Raises
        ------
        InvalidInput
            If the key file cannot be read.
        """
        self._keys.live(self._clock())  # rotates when it is time, even where nobody asks
        found = set(self._keys.public())
        for kid, not_before, not_after in sorted(found - self._known):
            self._store.record_key(KeyRow(kid, not_before, not_after))
        fresh, self._known = len(found - self._known), found
        return fresh
