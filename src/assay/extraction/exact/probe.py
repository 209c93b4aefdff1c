"""A few dozen questions that show what kind of answers a service gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from assay.extraction.exact.design import representable
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.precision import Grain, find_grain
from assay.model import Access

__all__ = ["Findings", "probe"]

_NEAR = 1e-3  # of a feature's span
_KINK = 1e-4
_FLAT = 1e-6
_FACTOR = 1e5  # of the answers' resolution: what counts as no difference
_SEVERAL = 0.6  # share of places that must agree


@dataclass(frozen=True, eq=False)
class Findings:
    """What a service shows.

    Parameters
    ----------
    x
        Random inputs that were asked, float64 ``[n, d]``.
    labels
        The classes answered there, int64 ``[n]``, or None where only something else is
        shown.
    scores
        Scores answered there, or None.
    grain
        Resolution of the scores, or None.
    hidden
        Whether some scores are hidden.
    constant
        Whether answers do not change in small neighbourhoods.
    linear
        Whether log-ratios at midpoints are the mean of those at the ends.
    additive
        Whether swapping features between two inputs leaves the sum of log-ratios as it was.
    kinked
        Whether log-ratios are straight in small neighbourhoods and bent between.
    """

    x: np.ndarray
    labels: np.ndarray | None
    scores: np.ndarray | None = None
    grain: Grain | None = None
    hidden: bool = False
    constant: bool = False
    linear: bool = False
    additive: bool = False
    kinked: bool = False

    @property
    def words(self) -> str:
        """One line for people."""
        if self.labels is None:
            return "neither labels nor scores"
        if self.scores is None or self.grain is None:
            return "labels only"
        parts = ["the largest scores" if self.hidden else "all scores", f"in {self.grain.title}"]
        if self.constant:
            parts.append("constant in small neighbourhoods")
        shapes = [name for name in ("linear", "additive", "kinked") if getattr(self, name)]
        if shapes and not self.constant:
            parts.append(f"{shapes[0]} in their logarithms")
        return ", ".join(parts)


def probe(oracle: Oracle, places: int, rng: np.random.Generator) -> Findings:
    """Ask ``2 places`` random inputs and, where scores are shown, ``5 places`` more around and between.

    Parameters
    ----------
    oracle
        The victim.
    places
        Places to look at, at least 2.
    rng
        Of the inputs.
    """
    a, b = np.split(oracle.domain.uniform(2 * places, rng), 2)
    x = np.vstack([a, b])
    if Access.LABELS not in oracle.access:
        return Findings(x, None)
    if Access.SCORES not in oracle.access:
        return Findings(x, oracle.labels(x))
    step = np.where(oracle.domain.continuous, oracle.domain.span, 0.0) * rng.choice([-1.0, 1.0], a.shape)
    swap = rng.random(a.shape) < 0.5  # noqa: PLR2004 - a coin for each feature
    middle = np.where(oracle.domain.continuous, 0.5 * (a + b), a)
    blocks = [
        x,
        representable(a + _NEAR * step),
        representable(a - _NEAR * step),
        middle,
        np.where(swap, a, b),
        np.where(swap, b, a),
    ]
    scores = oracle.scores(np.vstack(blocks))
    grain = find_grain(scores)
    p = dict(zip("abudmsr", np.split(scores, 7), strict=True))
    # Rounding moves the sum of a row by half a unit a class at most; hiding takes more away.
    lacking = 1 - scores.sum(axis=1) > 2 * grain.step * oracle.num_classes + _FLAT
    hidden = bool(lacking.mean() > 1 - _SEVERAL)
    labels = scores[: len(x)].argmax(axis=1)
    same = (np.abs(p["u"] - p["a"]) + np.abs(p["d"] - p["a"])).max(axis=1) == 0
    found = Findings(x, labels, scores[: len(x)], grain, hidden, constant=bool(same.mean() > _SEVERAL))
    if hidden or grain.rounded:
        return found
    linear, additive, kinked = _shapes(p, grain)
    return replace(
        found,
        linear=linear and bool(oracle.domain.continuous.all()),
        additive=additive,
        kinked=kinked and not linear and not found.constant,
    )


def _shapes(p: dict[str, np.ndarray], grain: Grain) -> tuple[bool, bool, bool]:
    """Return whether log-ratios are linear, additive, and straight in small neighbourhoods."""
    # Relative to the class whose smallest score is largest; zeros elsewhere cost that class only.
    reference = int(np.argmax(np.min([part.min(axis=0) for part in p.values()], axis=0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = {name: np.log(part) - np.log(part[:, [reference]]) for name, part in p.items()}
        middle = 2 * z["m"] - z["a"] - z["b"]
        swapped = z["s"] + z["r"] - z["a"] - z["b"]
        bend, rise = z["u"] + z["d"] - 2 * z["a"], z["u"] - z["d"]
    enough = max(_FACTOR * grain.step, _FLAT)

    def close(gap: np.ndarray) -> bool:
        known = np.isfinite(gap) & np.isfinite(z["a"])
        size = np.where(known, np.abs(z["a"]), 0.0).max(axis=1)
        fits = np.where(known, np.abs(gap), 0.0).max(axis=1) <= enough * (1 + size)
        rows = known.sum(axis=1) > 1
        return bool(rows.any() and fits[rows].mean() > _SEVERAL)

    steep = np.isfinite(rise).all(axis=1) & np.isfinite(bend).all(axis=1)
    steep &= np.abs(np.where(np.isfinite(rise), rise, 0.0)).max(axis=1) > 0
    straight = np.abs(bend[steep]).max(axis=1) <= _KINK * np.abs(rise[steep]).max(axis=1)
    return close(middle), close(swapped), bool(len(straight) and straight.mean() > _SEVERAL)
