"""Pressure on how groups of inputs lie among each other: extra batches between the ordinary ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from assay.nets import Bench
from assay.nets.soft_nearest_neighbours import Distance, median_distance, soft_nearest_neighbour_loss
from assay.nets.taps import default_taps, tapped

__all__ = ["Group", "NeighbourPressure"]

_COOLEST = 1e-3
_LARGEST_WEIGHT = 1e6


@dataclass(frozen=True, eq=False)
class Group:
    """A batch whose rows are to be told apart, or not.

    Parameters
    ----------
    x
        Inputs ``[n, *shape]``.
    targets
        What the network is to answer: classes, int64 ``[n]``, or probabilities ``[n, k]``.
    groups
        Integers ``[n]``: rows that belong together.
    blocks
        Integers ``[n]``: only rows of the same block are neighbours; None for all.
    """

    x: Tensor
    targets: Tensor
    groups: Tensor
    blocks: Tensor | None = None


class NeighbourPressure:
    """After every ordinary batch, one that also lowers or raises the soft nearest neighbour loss.

    At every tapped layer the loss's gradient is scaled to ``share`` of the norm that the
    ordinary loss's gradient has there, and its temperature is the median distance, so that
    the term works at any scale of the features.

    Parameters
    ----------
    draw
        Makes one batch from a generator.
    share
        Of the ordinary gradient; positive tells groups apart, negative mixes them.
    distance
        See `assay.nets.soft_nearest_neighbours.soft_nearest_neighbour_loss`.

    Attributes
    ----------
    losses
        Mean loss over the tapped layers at each of its batches.

    References
    ----------
    Jia et al., "Entangled Watermarks as a Defense against Model Extraction", USENIX
    Security 2021, section 4, for the term; Frosst, Papernot and Hinton, ICML 2019.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe, build, train
    >>> data = digits().subset(range(64))
    >>> pressure = NeighbourPressure(lambda _: Group(data.x, data.y, data.y), 0.5)
    >>> _ = train(build("mlp-8", (1, 8, 8), 10), data, Recipe(epochs=4, batch_size=32), interlude=pressure)
    >>> len(pressure.losses), pressure.losses[-1] < pressure.losses[0]
    (8, True)
    """

    def __init__(
        self, draw: Callable[[torch.Generator], Group], share: float, distance: Distance = "cosine"
    ) -> None:
        self._draw, self._share, self._distance = draw, share, distance
        self.losses: list[float] = []

    def __call__(self, bench: Bench, done: int, generator: torch.Generator) -> None:  # noqa: ARG002 - every batch
        """Take one step."""
        batch = self._draw(generator)
        names = default_taps(bench.module)
        with tapped(bench.module, names) as seen:
            logits = bench.forward(batch.x)
        targets = batch.targets.to(logits.device)
        # Cross-entropy takes probabilities as well as classes.
        loss = task = functional.cross_entropy(logits, targets)
        layers = [seen[name] for name in names]
        wanted = torch.autograd.grad(task, layers, retain_graph=True)
        values = []
        for layer, slope in zip(layers, wanted, strict=True):
            values.append(self._mixed(layer, batch))
            (found,) = torch.autograd.grad(values[-1], layer, retain_graph=True)
            weight = float(slope.float().norm() / found.float().norm().clamp_min(1 / _LARGEST_WEIGHT))
            loss = loss + self._share * min(weight, _LARGEST_WEIGHT) * values[-1]
        self.losses.append(math.fsum(float(value.detach()) for value in values) / len(values))
        bench.descend(loss)

    def _mixed(self, layer: Tensor, batch: Group) -> Tensor:
        flat = layer.flatten(1)
        temperature = max(median_distance(flat, self._distance), _COOLEST)
        return soft_nearest_neighbour_loss(
            flat,
            batch.groups.to(flat.device),
            temperature,
            distance=self._distance,
            blocks=None if batch.blocks is None else batch.blocks.to(flat.device),
        )
