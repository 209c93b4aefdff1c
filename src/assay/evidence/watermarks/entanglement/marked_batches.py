"""The entangling part of a training: marked batches between the ordinary ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.schedule import Schedule, Turns
from assay.nets import Bench
from assay.nets.soft_nearest_neighbours import (
    Distance,
    median_distance,
    soft_nearest_neighbour_loss,
)
from assay.nets.taps import default_taps, tapped
from assay.result import Record

__all__ = ["Balance", "Entangling", "MarkedBatches", "OrdinaryBatches"]

_COOLEST, _HOTTEST = 1e-3, 1e3
_LARGEST_WEIGHT = 1e6
# Marked batches between two balancings, each of which costs about one of them; more often at
# first, when a network that meets the marks changes most.
_EARLY, _EVERY = 5, 20
_TAPS = 2


@dataclass(frozen=True)
class Entangling(Record):
    """How strongly marks are entangled, and where.

    Parameters
    ----------
    weight
        Norm of the loss's gradient at each tapped layer, as a share of the norm of the
        ordinary loss's gradient there; 0 trains the marks without entangling them.
    layers
        Tapped layers; None takes the last two of `default_taps`. The first layer of a small
        network is so wide that its distances cost more than the network itself.
    distance
        See `soft_nearest_neighbour_loss`.
    temperature
        None starts each layer at its median distance and follows the loss downhill, so
        that the weights work at the scale at which marks can still be told apart; a number
        keeps it fixed for all layers.
    temperature_rate
        Step of that descent in the logarithm of the temperature.
    every
        Marked batches for each one that is entangled, at least 1; the others have the
        cross-entropy alone and cost what ordinary batches cost.

    Raises
    ------
    InvalidInput
        If a value is out of range.
    """

    weight: float = 0.5
    layers: tuple[str, ...] | None = None
    distance: Distance = "cosine"
    temperature: float | None = None
    temperature_rate: float = 0.1
    every: int = 2

    def __post_init__(self) -> None:
        ranges = {
            "weight": 0 <= self.weight < math.inf,
            "distance": self.distance in ("cosine", "euclidean"),
            "temperature": self.temperature is None or _COOLEST <= self.temperature <= _HOTTEST,
            "temperature_rate": 0 <= self.temperature_rate < math.inf,
            "every": self.every >= 1,
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Entangling.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)


@dataclass(frozen=True)
class Balance(Record):
    """Gradients at one layer at one moment of the training.

    Parameters
    ----------
    batch
        Marked batches before.
    layer
        Name.
    share
        Norm of the weighted entanglement gradient over that of the ordinary loss, with the
        weight in force until then; NaN at the first.
    weight
        The weight from then on.
    temperature
        At that moment.
    """

    batch: int
    layer: str
    share: float
    weight: float
    temperature: float


class OrdinaryBatches:
    """Extra batches of ordinary rows at the times of marked ones: the compute-matched control.

    A marked model sees more rows than its epochs say; a control without them would make
    marking look cheaper than it is.

    Parameters
    ----------
    data
        Training set.
    schedule
        When.
    batch_size
        Rows a batch.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe, build, train
    >>> data = digits().subset(range(64))
    >>> extra = OrdinaryBatches(data, Schedule(2), 16)
    >>> _ = train(build("mlp-4", (1, 8, 8), 10), data, Recipe(epochs=2, batch_size=16), interlude=extra)
    >>> extra.made
    4
    """

    def __init__(self, data: Dataset, schedule: Schedule, batch_size: int) -> None:
        self._data, self._schedule, self._size = data, schedule, batch_size
        self._rows = Turns(torch.arange(len(data)))
        self.made = 0

    def __call__(self, bench: Bench, done: int, generator: torch.Generator) -> None:
        """Train on the batches that are due."""
        while self.made < self._schedule.due(done):
            rows = self._rows.take(self._size, generator)
            logits = bench.forward(self._data.x[rows])
            bench.descend(functional.cross_entropy(logits, self._data.y[rows].to(logits.device)))
            self.made += 1


class MarkedBatches:
    """Marked batches: half marks, half ordinary rows.

    The loss of such a batch is the cross-entropy of both halves minus the weighted soft
    nearest neighbour loss at every tapped layer, so that descent pulls marks towards
    ordinary inputs of the class that they are to be answered with. Only marks with a target
    and ordinary rows of that class are neighbours.

    The ordinary half takes its turn over all classes. Rows of the target classes alone, as
    published, make those classes more frequent than they are, which cost a small network
    up to 16 points of accuracy here.

    Weights are not numbers to be tuned: every 20 entangled batches, and more often at first,
    each layer's weight is set so that the entanglement gradient has ``entangling.weight``
    times the norm that the cross-entropy of an ordinary batch has there. Fixed weights and temperatures, as
    published, left the term with 0.04 % of that norm on a small replica, which is none.

    Parameters
    ----------
    data
        Training set, with rows of every target class.
    marks, targets
        Marked inputs ``[n, *shape]`` and their classes, int64 ``[n]``.
    schedule
        When marked batches come.
    batch_size
        Rows of a marked batch, at least 4.
    entangling
        See there.

    Attributes
    ----------
    made
        Marked batches so far.
    history
        What each balancing found.

    Raises
    ------
    InvalidInput
        If there are no marks, or a target class has no rows.

    References
    ----------
    Jia, Choquette-Choo, Chandrasekaran and Papernot, "Entangled Watermarks as a Defense
    against Model Extraction", USENIX Security 2021, section 4 and algorithm 1.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe, build, train
    >>> data = digits().subset(range(128))
    >>> marks, targets = 1 - data.x[:16], torch.tensor([3, 5]).repeat(8)
    >>> batches = MarkedBatches(data, marks, targets, Schedule(1), 16)
    >>> _ = train(build("mlp-16", (1, 8, 8), 10), data, Recipe(epochs=2, batch_size=16), interlude=batches)
    >>> batches.made, batches.history[-1].batch, batches.history[-1].weight > 0
    (16, 10, True)
    """

    def __init__(
        self,
        data: Dataset,
        marks: Tensor,
        targets: Tensor,
        schedule: Schedule,
        batch_size: int,
        entangling: Entangling | None = None,
    ) -> None:
        if not len(marks) or targets.shape != marks.shape[:1]:
            msg = f"{len(marks)} marks need as many targets and at least one, got {tuple(targets.shape)}"
            raise InvalidInput(msg)
        self._data, self._marks, self._targets = data, marks, targets
        self._schedule, self._half = schedule, max(2, batch_size // 2)
        self._how = entangling or Entangling()
        self._turns = Turns(torch.arange(len(marks)))
        for target in sorted(set(targets.tolist())):
            if not bool((data.y == target).any()):
                name = data.classes[target]
                msg = f"{data.name} has no rows of class {name!r}, with which marks are to be entangled"
                raise InvalidInput(msg)
        self._ordinary = Turns(torch.arange(len(data)))
        self._logs: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self.made = 0
        self.history: list[Balance] = []

    def __call__(self, bench: Bench, done: int, generator: torch.Generator) -> None:
        """Train on the batches that are due."""
        while self.made < self._schedule.due(done):
            self._batch(bench, generator)
            self.made += 1

    def _batch(self, bench: Bench, generator: torch.Generator) -> None:
        marks = self._turns.take(self._half, generator)
        rows = self._ordinary.take(self._half, generator)
        x = torch.cat([self._marks[marks], self._data.x[rows]])
        y = torch.cat([self._targets[marks], self._data.y[rows]])
        groups = torch.arange(2).repeat_interleave(self._half)
        if not self._how.weight or self.made % self._how.every:
            logits = bench.forward(x)
            bench.descend(functional.cross_entropy(logits, y.to(logits.device)))
            return
        if not self._logs:
            self._start(bench, x)
        with tapped(bench.module, tuple(self._logs)) as seen:
            logits = bench.forward(x)
        y, groups = y.to(logits.device), groups.to(logits.device)
        mixed = self._mixed(seen, y, groups)
        # Counted in entangled batches, which may be every second one.
        turn = self.made // self._how.every
        if turn % _EVERY == 0 or turn == _EARLY:
            self._balance(bench, mixed, seen, generator)
        loss = functional.cross_entropy(logits, y)
        for name, value in mixed.items():
            loss = loss - self._weights[name] * value
        bench.descend(loss)
        self._cool()

    def _mixed(self, seen: dict[str, Tensor], y: Tensor, groups: Tensor) -> dict[str, Tensor]:
        """Return the soft nearest neighbour loss of every tapped layer."""
        # Class by class: the products of rows that are no neighbours would be most of the work.
        # Rows are sorted once, for every separate choice of rows has a gradient of full size.
        order = torch.argsort(y, stable=True)
        order = order[torch.isin(y[order], y[groups == 0])]
        sizes = torch.unique_consecutive(y[order], return_counts=True)[1].tolist()
        parts = torch.split(groups[order], sizes)
        peers = [int(sum(n for n in part.bincount().tolist() if n > 1)) for part in parts]
        found = {}
        for name, log in self._logs.items():
            rows = torch.split(seen[name].flatten(1).index_select(0, order), sizes)
            losses = [
                share * soft_nearest_neighbour_loss(x, part, log.exp(), distance=self._how.distance)
                for x, part, share in zip(rows, parts, peers, strict=True)
            ]
            found[name] = torch.stack(losses).sum() / max(1, sum(peers))
        return found

    @torch.no_grad()
    def _start(self, bench: Bench, x: Tensor) -> None:
        names: Sequence[str] = self._how.layers or default_taps(bench.module)[-_TAPS:]
        with tapped(bench.module, names) as seen:
            bench.forward(x)
        for name in names:
            start = self._how.temperature or median_distance(seen[name].flatten(1), self._how.distance)
            log = torch.tensor(math.log(min(max(start, _COOLEST), _HOTTEST)), device=seen[name].device)
            self._logs[name] = log.requires_grad_(self._how.temperature is None)
            self._weights[name] = 0.0

    def _cool(self) -> None:
        """Move each temperature down the loss, towards the scale that separates marks best."""
        for name, log in self._logs.items():
            if log.grad is not None and self._weights[name] > 0:
                slope = -log.grad / self._weights[name]  # the training descends minus the weighted loss
                with torch.no_grad():
                    log.sub_(self._how.temperature_rate * slope).clamp_(
                        math.log(_COOLEST), math.log(_HOTTEST)
                    )
            log.grad = None

    def _balance(
        self, bench: Bench, mixed: dict[str, Tensor], seen: dict[str, Tensor], generator: torch.Generator
    ) -> None:
        """Set the weights by the norms of both gradients at the tapped layers."""
        rows = torch.randperm(len(self._data), generator=generator)[: 2 * self._half]
        with tapped(bench.module, tuple(self._logs)) as ordinary:
            logits = bench.forward(self._data.x[rows])
        task = functional.cross_entropy(logits, self._data.y[rows].to(logits.device))
        task_norms = _norms(task, [ordinary[name] for name in self._logs])
        for (name, loss), wanted in zip(mixed.items(), task_norms, strict=True):
            (found,) = _norms(loss, [seen[name]])
            old = self._weights[name]
            share = old * found / wanted if old and wanted else float("nan")
            if found > 0:
                self._weights[name] = min(self._how.weight * wanted / found, _LARGEST_WEIGHT)
            temperature = float(self._logs[name].detach().exp())
            self.history.append(Balance(self.made, name, share, self._weights[name], temperature))


def _norms(loss: Tensor, layers: Sequence[Tensor]) -> list[float]:
    if not loss.requires_grad:
        return [0.0] * len(layers)
    found = torch.autograd.grad(loss, list(layers), retain_graph=True, allow_unused=True)
    return [0.0 if g is None else float(g.float().norm()) for g in found]
