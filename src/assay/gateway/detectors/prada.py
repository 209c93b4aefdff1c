"""PRADA: distances between the queries of honest users are normally distributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.defences.sketch import Sketch
from assay.errors import InvalidInput
from assay.gateway.detectors.base import Detector, Look, Seen, load_state, save_state

__all__ = ["Prada"]

_ENOUGH = 100
_ENOUGH_OF_A_CLASS = 10
_OUTLIER = 3.0
_SHAPE = {
    "counts": ("int64", 1),
    "references": ("float32", 2),
    "owners": ("int64", 1),
    "distances": ("float32", 1),
    "classes": ("int64", 1),
    "growth": ("float64", 2),
}
# Columns of `growth`, one row a class: how often its set grew, mean and sum of squared
# differences of the distances at which it did, threshold.
_GROWN, _MEAN, _SQUARES, _LEAST = range(4)


@dataclass(frozen=True, kw_only=True)
class Prada(Detector):
    """Flag an account whose nearest distances do not look normally distributed.

    For each predicted class the detector keeps a set of queries that are far enough from each
    other. The distances of new queries to the set of their class, pooled and without
    outliers, are tested by Shapiro-Wilk; a statistic below ``threshold`` raises the alarm.
    It finds queries that are made from earlier ones, as in Jacobian augmentation. It is blind to
    natural images of other kinds, whose distances are normal as well.

    Memory is bounded, where the published one grows for ever: of far-apart queries a uniform
    sample is kept, of distances the latest ones, and of long inputs a sketch. Repeats are
    passed over.

    Parameters
    ----------
    threshold
        Of the Shapiro-Wilk statistic, between 0 and 1.
    every
        Queries between two tests, at least 1; queries that come together are tested once.
    references
        Queries kept of an account, at least 16.
    window
        Distances kept of an account, 200 to 5,000.
    width
        Numbers kept of an input, at least 8; shorter inputs are kept as they are.
    classes
        Largest number of classes that are told apart.
    key
        Hex digits, from which the sketch follows; a gateway fills it in.

    References
    ----------
    Juuti, Szyller, Marchal and Asokan, "PRADA: Protecting Against DNN Model Stealing
    Attacks", IEEE EuroS&P 2019.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> seen = Seen(rng.normal(size=(400, 30)), rng.integers(0, 2, 400))
    >>> look = Prada().look(None, seen)
    >>> look.fired, look.queries, look.score > 0.9
    (False, 400, True)
    """

    name: ClassVar[str] = "prada"

    threshold: float = 0.9
    every: int = 10
    references: int = 256
    window: int = 1000
    width: int = 64
    classes: int = 1000
    key: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            msg = f"the threshold must lie between 0 and 1, got {self.threshold}"
            raise InvalidInput(msg)
        # Shapiro-Wilk p-values and weights are trusted up to 5,000 values.
        if not 2 * _ENOUGH <= self.window <= 5000:  # noqa: PLR2004 - see above
            msg = f"the window must hold 200 to 5000 distances, got {self.window}"
            raise InvalidInput(msg)
        if min(self.every, self.classes) < 1 or self.references < 16 or self.width < 8:  # noqa: PLR2004 - documented
            msg = "every and classes must be at least 1, references 16 and width 8"
            raise InvalidInput(msg)

    def look(self, state: bytes | None, seen: Seen) -> Look:
        """Return the statistic if a test was due, else 1, see `Detector.look`."""
        rows = seen.rows if seen.rows.shape[1] <= self.width else self._sketch()(seen.rows)
        memory = _Memory.of(state, self, rows.shape[1])
        before = memory.queries
        for row, label in zip(rows.astype(np.float32), seen.labels % self.classes, strict=True):
            memory.take(row, int(label))
        # One test for all that came together: a store waits for this look.
        due = memory.queries // self.every > before // self.every
        statistic = memory.statistic() if due else None
        fired = statistic is not None and memory.judge(statistic < self.threshold)
        detail = {"references": float(len(memory.owners)), "distances": float(len(memory.distances))}
        return Look(memory.save(), 1.0 if statistic is None else statistic, fired, memory.queries, detail)

    @property
    def layout(self) -> tuple[object, ...]:
        """What a state is kept under; thresholds may change without losing it."""
        return (self.name, self.references, self.window, self.width, self.classes, self.key)

    def _sketch(self) -> Sketch:
        return Sketch(b"prada\0" + bytes.fromhex(self.key), self.width)


class _Memory:
    """What is remembered of one account; mutable, lives for one look."""

    def __init__(self, how: Prada, arrays: dict[str, NDArray[Any]]) -> None:
        self._how = how
        # queries, far-apart queries ever, whether the last test was below the threshold
        self._counts = arrays["counts"]
        self._references = arrays["references"]
        self.owners = arrays["owners"]
        self.distances = arrays["distances"]
        self._classes = arrays["classes"]
        self._growth = arrays["growth"]

    @classmethod
    def of(cls, state: bytes | None, how: Prada, width: int) -> _Memory:
        arrays = load_state(state, _SHAPE, how.layout)
        if arrays is None or arrays["references"].shape[1] != width or not _sound(arrays, how):
            arrays = {
                "counts": np.zeros(3, np.int64),
                "references": np.zeros((0, width), np.float32),
                "owners": np.zeros(0, np.int64),
                "distances": np.zeros(0, np.float32),
                "classes": np.zeros(0, np.int64),
                "growth": np.zeros((0, 4), np.float64),
            }
        return cls(how, arrays)

    @property
    def queries(self) -> int:
        return int(self._counts[0])

    def save(self) -> bytes:
        return save_state(
            {
                "counts": self._counts,
                "references": self._references,
                "owners": self.owners,
                "distances": self.distances,
                "classes": self._classes,
                "growth": self._growth,
            },
            self._how.layout,
        )

    def take(self, row: NDArray[np.float32], label: int) -> None:
        self._counts[0] += 1
        if label >= len(self._growth):
            more = np.zeros((label + 1 - len(self._growth), 4))
            self._growth = np.concatenate([self._growth, more])
        class_ = self._growth[label]
        others = self._references[self.owners == label]
        if not len(others):
            self._grow(row, label, 0.0)
            return
        distance = float(np.sqrt(((others - row) ** 2).sum(axis=1).min()))
        # Repeats teach a copier nothing and many honest users send them; inputs beyond float32
        # have no distance.
        if distance == 0 or not np.isfinite(distance):
            return
        self.distances = np.append(self.distances, np.float32(distance))[-self._how.window :]
        self._classes = np.append(self._classes, label)[-self._how.window :]
        if distance > class_[_LEAST]:
            self._grow(row, label, distance)

    def _grow(self, row: NDArray[np.float32], label: int, distance: float) -> None:
        class_ = self._growth[label]
        class_[_GROWN] += 1
        difference = distance - class_[_MEAN]
        class_[_MEAN] += difference / class_[_GROWN]
        class_[_SQUARES] += difference * (distance - class_[_MEAN])
        spread = np.sqrt(class_[_SQUARES] / class_[_GROWN])
        class_[_LEAST] = max(class_[_LEAST], class_[_MEAN] - spread)
        self._counts[1] += 1
        if len(self.owners) < self._how.references:
            self._references = np.concatenate([self._references, row[None]])
            self.owners = np.append(self.owners, label)
            return
        # A uniform sample of all that ever belonged to a set; a class never loses its last one.
        place = int(np.random.default_rng(int(self._counts[1])).integers(self._counts[1]))
        if place < len(self.owners) and (self.owners == self.owners[place]).sum() > 1:
            self._references[place], self.owners[place] = row, label

    def statistic(self) -> float | None:
        from scipy.stats import shapiro

        often = np.bincount(self._classes) >= _ENOUGH_OF_A_CLASS if len(self._classes) else np.zeros(0, bool)
        pooled = self.distances[often[self._classes]] if len(self._classes) else self.distances
        if len(pooled) <= _ENOUGH:
            return None
        kept = pooled[np.abs(pooled - pooled.mean()) <= _OUTLIER * pooled.std()].astype(np.float64)
        # All distances alike, as from one repeated query, are as far from normal as can be.
        if len(kept) <= _ENOUGH:
            return None
        return float(shapiro(kept).statistic) if np.ptp(kept) > 0 else 0.0

    def judge(self, below: bool) -> bool:  # noqa: FBT001 - one flag, private
        """Return whether to raise the alarm: when the account goes below, not while it stays there."""
        fired = below and not self._counts[2]
        self._counts[2] = below
        return bool(fired)


def _sound(arrays: dict[str, NDArray[Any]], how: Prada) -> bool:
    """Return whether a stored state can be gone on from under these settings."""
    owners, classes = arrays["owners"], arrays["classes"]
    return bool(
        arrays["counts"].shape == (3,)
        and arrays["growth"].shape[1] == 4  # noqa: PLR2004 - see its columns
        and len(owners) == len(arrays["references"]) <= how.references
        and len(classes) == len(arrays["distances"]) <= how.window
        and all(len(a) == 0 or (a.min() >= 0 and a.max() < len(arrays["growth"])) for a in (owners, classes))
        and len(arrays["growth"]) <= how.classes
    )
