"""Coverage: how much of input space an account has asked about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.defences.buckets import Buckets
from assay.errors import InvalidInput
from assay.gateway.detectors.base import Detector, Look, Seen, load_state, save_state

__all__ = ["Coverage", "overlap", "share"]

_SHAPE = {"counts": ("int64", 1), "seen": ("uint8", 1)}


@dataclass(frozen=True, kw_only=True)
class Coverage(Detector):
    """Flag an account that has asked in more places of input space than users do.

    Input space is cut into ``2 ** bits`` buckets by secret projections; an account's state is
    one bit for each. Users of a narrow task fill few of them, however much they ask;
    a copier needs answers everywhere. Copiers within the task's own distribution look like
    heavy users until their volume tells.

    Parameters
    ----------
    bits
        There are ``2 ** bits`` buckets, 3 to 16.
    limit
        Share of buckets above which the alarm is raised, above 0 and at most 1. `fit` sets it from
        trusted traffic.
    centre
        Values of the projections for typical inputs, see `assay.defences.buckets.Buckets`.
    key
        Hex digits, from which the projections follow; a gateway fills it in.

    References
    ----------
    Dubiński et al., "Bucks for Buckets (B4B): Active Defenses Against Stealing Encoders",
    NeurIPS 2023; Kesarwani, Mukhoty, Arya and Mehta, "Model Extraction Warning in MLaaS
    Paradigm", ACSAC 2018, monitors coverage by another measure.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> trusted = rng.normal(size=(300, 20)) * 0.1 + 1
    >>> coverage = Coverage(bits=8).fit(trusted)
    >>> labels = np.zeros(300, np.int64)
    >>> coverage.look(None, Seen(trusted, labels)).fired
    False
    >>> coverage.look(None, Seen(rng.normal(size=(300, 20)), labels)).fired
    True
    """

    name: ClassVar[str] = "coverage"

    bits: int = 12
    limit: float = 0.25
    centre: tuple[float, ...] = ()
    key: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.limit <= 1:
            msg = f"the limit must lie above 0 and not above 1, got {self.limit}"
            raise InvalidInput(msg)
        self._buckets()

    def fit(self, rows: NDArray[np.floating], *, slack: float = 1.5, balance: bool = False) -> Coverage:
        """Return this detector with a limit that trusted traffic stays below.

        Parameters
        ----------
        rows
            Trusted inputs, float ``[n, d]``, as many as the heaviest honest account asks.
        slack
            The limit is so many times what these rows cover, at least 1.
        balance
            Whether the projections are centred so that trusted rows fall on both sides of each.
            Centred buckets spread trusted traffic over all of them: that suits noise by
            coverage; for an alarm on foreign inputs leave it off.
        """
        buckets = self._buckets()
        if balance:
            buckets = buckets.fit(rows)
        covered = len(set(buckets.of(rows).tolist())) / buckets.count
        return replace(self, centre=buckets.centre, limit=min(1.0, max(slack, 1.0) * covered))

    def look(self, state: bytes | None, seen: Seen) -> Look:
        """Return the share of covered buckets, see `Detector.look`."""
        buckets = self._buckets()
        arrays = load_state(state, _SHAPE, buckets)
        if arrays is None or len(arrays["seen"]) * 8 != buckets.count or arrays["counts"].shape != (2,):
            arrays = {"counts": np.zeros(2, np.int64), "seen": np.zeros(-(-buckets.count // 8), np.uint8)}
        counts, bits = arrays["counts"], np.unpackbits(arrays["seen"])[: buckets.count]
        bits[buckets.of(seen.rows)] = 1
        covered = float(bits.mean())
        counts[0] += len(seen)
        fired = covered > self.limit and not counts[1]
        counts[1] |= fired
        kept = save_state({"counts": counts, "seen": np.packbits(bits)}, buckets)
        return Look(
            kept, covered, bool(fired), int(counts[0]), {"limit": self.limit, "buckets": float(bits.sum())}
        )

    def _buckets(self) -> Buckets:
        return Buckets(b"coverage\0" + bytes.fromhex(self.key), self.bits, self.centre)


def share(state: bytes | None) -> float:
    """Return the share of buckets that an account has covered; 0 where nothing is known.

    Examples
    --------
    >>> share(None)
    0.0
    """
    arrays = load_state(state, _SHAPE)
    return 0.0 if arrays is None else float(np.unpackbits(arrays["seen"]).mean())


def overlap(one: bytes | None, other: bytes | None) -> float:
    """Return how much the places that two accounts ask about coincide, 0 to 1.

    The cosine of the two sets. Accounts of one copier that splits a pool at random overlap
    as much as two halves of the pool do.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(50, 8))
    >>> state = Coverage(bits=6).look(None, Seen(rows, np.zeros(50, np.int64))).state
    >>> round(overlap(state, state), 9), overlap(state, None)
    (1.0, 0.0)
    """
    a, b = load_state(one, _SHAPE), load_state(other, _SHAPE)
    if a is None or b is None or len(a["seen"]) != len(b["seen"]):
        return 0.0
    x, y = np.unpackbits(a["seen"]).astype(bool), np.unpackbits(b["seen"]).astype(bool)
    both = float(np.sqrt(x.sum() * y.sum()))
    return float((x & y).sum() / both) if both else 0.0
