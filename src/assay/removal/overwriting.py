"""Overwriting: the thief trains a mark of his own into the copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import predict
from assay.observers import Observer
from assay.registry import register
from assay.removal.adversarial_inputs import limits
from assay.removal.layers import copied
from assay.removal.neighbour_pressure import Group, NeighbourPressure
from assay.removal.tuning import Tuned

__all__ = ["Overwriting", "Stamp"]

_SIDE = 5  # a stamp takes a fifth of the shortest side, or of the columns of a table


@dataclass(frozen=True, eq=False)
class Stamp:
    """A keyed pattern and the class that it is to be answered with.

    Parameters
    ----------
    where
        Coordinates that it overwrites, bool ``[*shape]``.
    values
        What it writes, float32 ``[*shape]``.
    target
        The class.
    """

    where: Tensor
    values: Tensor
    target: int

    def on(self, x: Tensor) -> Tensor:
        """Return ``x`` with the stamp on every row."""
        return torch.where(self.where, self.values, x)


@register("overwriting", kind="removal")
@dataclass(frozen=True, kw_only=True)
class Overwriting(Tuned):
    """Train a keyed mark of the thief's own into the copy (piracy).

    Stamped rows are added to the data with a class of the thief's choice. It washes out
    marks that rest on the same parts of the network, and lets the thief claim the model;
    that claim is older only if his commitment is, which is why marks are committed before
    a model is released. ``measured`` of the record has the share of stamped rows of other
    classes that get their class (``own_mark``). The mark is a box of extreme values, or
    extreme columns; other schemes can be put on the copy with `assay.evidence` itself.

    Parameters
    ----------
    key
        Of stamps and classes; None takes the seed of the run.
    marks
        Stamps, each with a class of its own, at least 1.
    share
        Rows that are stamped, as a share of the data, in (0, 1].
    entanglement
        Mix stamped rows with ordinary ones of their class inside the network: gradient of
        that term as a share of the ordinary one's; 0 leaves it out. Above 0, an
        interrupted training starts afresh.

    References
    ----------
    Adi et al., "Turning Your Weakness Into a Strength", USENIX Security 2018, section 5.3
    (ownership piracy); Lukas et al., "SoK: How Robust is Image Classification Deep Neural
    Network Watermarking?", IEEE S&P 2022 (overwriting).

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data.embedded import digits
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-32", (1, 8, 8), 10))
    >>> data = digits().subset(range(200))
    >>> washed = Overwriting(key=7, labels="true", lr=0.1, epochs=15).run(model, data)
    >>> washed.record.measured["own_mark"] > 0.9
    True
    """

    name: ClassVar[str] = "overwriting"
    key: int | None = None
    marks: int = 1
    share: float = 0.2
    entanglement: float = 0.0
    epochs: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = {
            "key": self.key is None or self.key >= 0,
            "marks": self.marks >= 1,
            "share": 0 < self.share <= 1,
            "entanglement": 0 <= self.entanglement < math.inf,
        }
        for name, holds in fine.items():
            if not holds:
                msg = f"{name} of {self.name} is out of range: {getattr(self, name)!r}"
                raise InvalidInput(msg)

    def stamps(self, data: Dataset, rng: int) -> list[Stamp]:
        """Return the thief's stamps for inputs like ``data``; ``rng`` is the key unless there is one.

        Raises
        ------
        InvalidInput
            If there are more marks than classes.
        """
        if self.marks > data.num_classes:
            msg = f"{self.marks} marks need as many classes, {data.name} has {data.num_classes}"
            raise InvalidInput(msg)
        generator = torch.Generator().manual_seed(rng if self.key is None else self.key)
        targets = torch.randperm(data.num_classes, generator=generator)[: self.marks].tolist()
        return [_draw(data, target, generator) for target in targets]

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Stamp some rows and train a copy on them and all others."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets = self.targets(network, rows)
        stamps = self.stamps(rows, rng)
        generator = torch.Generator().manual_seed(rng)
        count = max(self.marks, round(self.share * len(rows)))
        chosen = torch.randperm(len(rows), generator=generator).repeat(-(-count // len(rows)))[:count]
        parts = chosen.tensor_split(self.marks)
        x = torch.cat([stamp.on(rows.x[part]) for stamp, part in zip(stamps, parts, strict=True)])
        y = torch.cat([torch.full((len(p),), s.target) for s, p in zip(stamps, parts, strict=True)])
        mixing = _Mixing(x, y, rows.x, targets, self.recipe.batch_size if self.recipe else self.batch_size)
        self.tune(
            network,
            rows.concat(Dataset(x, y, rows.classes, rows.value_range, "stamped")),
            torch.cat([targets, y]),
            interlude=NeighbourPressure(mixing, -self.entanglement) if self.entanglement else None,
            rng=rng,
            observers=observers,
            checkpoint=checkpoint,
        )
        return network

    def measure(self, washed: nn.Module, data: Dataset | None, rng: int) -> dict[str, float]:
        """Return the share of stamped rows of other classes that get the stamp's class."""
        if data is None:
            return {}
        hits = asked = 0
        for stamp in self.stamps(data, rng):
            other = data.x[data.y != stamp.target]
            if len(other):
                hits += int((predict(washed, stamp.on(other)).argmax(1) == stamp.target).sum())
                asked += len(other)
        return {"own_mark": hits / asked} if asked else {}


class _Mixing:
    """Stamped rows beside ordinary ones; those of one class are neighbours."""

    def __init__(self, x: Tensor, y: Tensor, ordinary: Tensor, classes: Tensor, size: int) -> None:
        self._x, self._y, self._ordinary, self._classes = x, y, ordinary, classes
        # Rows of other classes would have no stamped neighbour and no say.
        self._same = torch.isin(classes, y).nonzero()[:, 0]
        self._half = max(2, size // 2)

    def __call__(self, generator: torch.Generator) -> Group:
        stamped = torch.randperm(len(self._x), generator=generator)[: self._half]
        rows = self._same[torch.randperm(len(self._same), generator=generator)[: self._half]]
        y = torch.cat([self._y[stamped], self._classes[rows]])
        groups = torch.cat([torch.ones_like(stamped), torch.zeros_like(rows)])
        return Group(torch.cat([self._x[stamped], self._ordinary[rows]]), y, groups, y)


def _draw(data: Dataset, target: int, generator: torch.Generator) -> Stamp:
    shape = data.input_shape
    low, high = limits(data)
    where = torch.zeros(shape, dtype=torch.bool)
    if len(shape) == 1:
        # A table's columns have units of their own.
        bottom, top = data.x.amin(0), data.x.amax(0)
        where[torch.randperm(shape[0], generator=generator)[: max(1, shape[0] // _SIDE)]] = True
    else:
        bottom, top = torch.full(shape, low), torch.full(shape, high)
        side = min(max(3, min(shape[1:]) // _SIDE), *shape[1:])
        corner = [int(torch.randint(n - side + 1, (), generator=generator)) for n in shape[1:]]
        where[(slice(None), *(slice(c, c + side) for c in corner))] = True
    # Half high, half low: an even stamp could vanish in a background of its own value.
    up = torch.zeros(shape, dtype=torch.bool)
    up[where] = torch.randperm(int(where.sum()), generator=generator) % 2 == 0
    return Stamp(where, torch.where(up, top, bottom), target)
