"""Shaping marks by gradient steps: no accident for clean models, close to the target classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.placement import median_scales, mixing
from assay.nets.soft_nearest_neighbours import Distance
from assay.result import Record

__all__ = ["Shaped", "Shaping", "shape_marks"]


@dataclass(frozen=True)
class Shaping(Record):
    """Sizes and numbers of the steps.

    Parameters
    ----------
    step
        Largest change of a coordinate in one step, as a share of the value range, > 0.
    threshold
        Steps away from the targets are taken while the clean model calls more than this
        share of the marks one of them, in [0, 1].
    most
        Most of these steps in all.
    rounds
        Times that steps away and one step of entanglement alternate.
    final
        Unconditional steps away from the targets at the end.
    cap
        Largest change of a coordinate in all, as a share of the range; None: no cap.

    Raises
    ------
    InvalidInput
        If a value is out of range.
    """

    step: float = 0.01
    threshold: float = 0.1
    most: int = 50
    rounds: int = 10
    final: int = 5
    cap: float | None = None

    def __post_init__(self) -> None:
        ranges = {
            "step": 0 < self.step <= 1,
            "threshold": 0 <= self.threshold <= 1,
            "most": self.most >= 0,
            "rounds": self.rounds >= 0,
            "final": self.final >= 0,
            "cap": self.cap is None or 0 < self.cap <= 1,
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Shaping.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)


@dataclass(frozen=True, eq=False)
class Shaped:
    """Marks after shaping.

    Parameters
    ----------
    marks
        float32, as many as before.
    rate
        Share that the clean model calls one of the target classes.
    away, entangled
        Steps taken of each kind; ``away`` is without the final ones.
    capped
        Whether the steps ran out before the rate was at the threshold.
    mixing
        Soft nearest neighbour loss before and after each step of entanglement.
    """

    marks: Tensor
    rate: float
    away: int
    entangled: int
    capped: bool
    mixing: tuple[tuple[float, float], ...]


def shape_marks(
    network: nn.Module,
    marks: Tensor,
    ordinary: Tensor,
    classes: Sequence[int],
    value_range: tuple[float, float],
    how: Shaping | None = None,
    *,
    layers: Sequence[str] | None = None,
    distance: Distance = "cosine",
) -> Shaped:
    """Move marks away from what a clean model calls them and towards the task's features.

    Two signed gradient steps take turns: one that raises the clean model's cross-entropy to
    the target classes (so that independent models do not answer them), one that raises the
    soft nearest neighbour loss between marks and ordinary rows. All candidate targets are
    treated alike, so that shaped marks tell nothing about which of them a key draws.

    Parameters
    ----------
    network
        Trained without marks, in evaluation mode; the same serves all marks.
    marks
        float32 ``[n, *shape]``.
    ordinary
        Rows of the candidate classes, ``[m, *shape]``.
    classes
        Candidate targets, at least one.
    value_range
        Inputs are clipped to it after every step.
    how
        See `Shaping`.
    layers, distance
        As in `mixing`.

    Raises
    ------
    InvalidInput
        If there is no candidate class or the value range is not finite.

    References
    ----------
    Jia et al., USENIX Security 2021, algorithm 1, lines 4 to 11. Goodfellow, Shlens and
    Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015, for the step.

    Examples
    --------
    >>> from assay.nets import build
    >>> network = build("mlp-8", (3,), 2).eval()
    >>> found = shape_marks(network, torch.full((4, 3), 0.5), torch.rand(4, 3), [1], (0.0, 1.0))
    >>> bool((found.marks - 0.5).abs().max() <= 0.5), found.entangled
    (True, 10)
    """
    how = how or Shaping()
    low, high = value_range
    wanted = sorted(set(classes))
    if not wanted or not math.isfinite(high - low):
        msg = "shaping needs at least one target class and a finite value range"
        raise InvalidInput(msg)
    start, step = marks.detach(), how.step * (high - low)
    cap = math.inf if how.cap is None else how.cap * (high - low)
    x, rate, away, seen = start, 1.0, 0, []

    def moved(direction: Tensor) -> Tensor:
        near = torch.clamp(x + step * direction.sign(), start - cap, start + cap)
        return near.clamp(low, high)

    # One scale for all steps: the loss at a scale of its own would hide what a step did.
    scale = median_scales(network, torch.cat([start, ordinary]), layers, distance)
    for _ in range(how.rounds):
        rate, direction = _away(network, x, wanted)
        while rate > how.threshold and away < how.most:
            x, away = moved(direction), away + 1
            rate, direction = _away(network, x, wanted)
        free = x.clone().requires_grad_()
        before = mixing(network, free, ordinary, layers=layers, distance=distance, temperatures=scale)
        (slope,) = torch.autograd.grad(before, free)
        x = moved(slope)
        with torch.no_grad():
            after = mixing(network, x, ordinary, layers=layers, distance=distance, temperatures=scale)
        seen.append((float(before.detach()), float(after)))
    for _ in range(how.final):
        _, direction = _away(network, x, wanted)
        x = moved(direction)
    rate, direction = _away(network, x, wanted)
    while rate > how.threshold and away < how.most:
        x, away = moved(direction), away + 1
        rate, direction = _away(network, x, wanted)
    return Shaped(x, rate, away, how.rounds, rate > how.threshold, tuple(seen))


def _away(network: nn.Module, x: Tensor, classes: Sequence[int]) -> tuple[float, Tensor]:
    """Return the share called one of the classes and the gradient away from them, in one pass."""
    free = x.clone().requires_grad_()
    logits = network(free)
    hit = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    hit[list(classes)] = True
    rate = float(hit[logits.argmax(1)].float().mean())
    # Cross-entropy to the set of candidates: all of them are left behind alike.
    loss = logits.logsumexp(1) - logits.masked_fill(~hit, -math.inf).logsumexp(1)
    (direction,) = torch.autograd.grad(loss.sum(), free)
    return rate, direction
