"""Reversed triggers: the smallest stamp that turns inputs into each class, all classes at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.observers import Observer, Observers

__all__ = ["ReversedTriggers", "TriggerReversal", "anomaly_indices", "flagged"]

_BETAS = (0.5, 0.9)
_PATIENT = 5  # steps on one side of the goal before the penalty moves
_GROW, _SHRINK = 2.0, 2.0**1.5
_FIRST_PENALTY = 1e-3
_STALE = 25  # steps without a smaller mask before a class is finished
_SLACK = 0.99
_CONSISTENT = 1.4826  # makes the median absolute deviation a standard deviation for normal data


@dataclass(frozen=True, eq=False)
class ReversedTriggers:
    """One stamp for each task.

    Parameters
    ----------
    masks
        How far each position is overwritten, in [0, 1], float32 ``[tasks, 1, *space]`` (tables:
        ``[tasks, features]``).
    patterns
        What is written there, in the data's range, float32 ``[tasks, *input_shape]``.
    targets, sources
        Class that inputs turn into, and the class they come from (-1: any), int64 ``[tasks]``.
    norms
        Sum of each mask, float64 ``[tasks]``.
    success
        Share of the last minibatches that were turned, float64 ``[tasks]``.
    steps
        Steps run for each task, int64 ``[tasks]``.
    """

    masks: Tensor
    patterns: Tensor
    targets: Tensor
    sources: Tensor
    norms: Tensor
    success: Tensor
    steps: Tensor

    def stamp(self, x: Tensor, task: int) -> Tensor:
        """Return ``x`` with the stamp of one task on every row."""
        mask = self.masks[task]
        return x * (1 - mask) + mask * self.patterns[task]


@dataclass(frozen=True, kw_only=True)
class TriggerReversal:
    """Find the smallest stamps by gradient, for all classes in one batch.

    Each task has its own mask, pattern and penalty; only the minibatches are shared. The
    result is that of one search after the other, and the network runs a few large
    batches in place of many small ones.

    Parameters
    ----------
    steps
        Most steps, at least 1; a task ends when its mask has stopped shrinking.
    minibatches
        Updates a step, at least 1.
    batch_size
        Rows a minibatch and task, at least 1.
    lr
        Of Adam, above 0.
    goal
        Success at which a mask counts, in (0, 1].
    pairs
        Search a stamp for every source and target class instead of every target: ``k (k - 1)``
        tasks. Marks that work on one source class are missed otherwise.

    Raises
    ------
    InvalidInput
        If a number is out of range.

    References
    ----------
    Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
    Networks", IEEE S&P 2019, section 4.

    Examples
    --------
    >>> from assay.nets import build
    >>> data = Dataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 3, ("a", "b", "c"))
    >>> found = TriggerReversal(steps=2, minibatches=2).run(build("cnn-4", (1, 8, 8), 3), data)
    >>> found.masks.shape, found.targets.tolist()
    (torch.Size([3, 1, 8, 8]), [0, 1, 2])
    """

    steps: int = 60
    minibatches: int = 10
    batch_size: int = 32
    lr: float = 0.1
    goal: float = 0.99
    pairs: bool = False

    def __post_init__(self) -> None:
        fine = {
            "steps": self.steps >= 1,
            "minibatches": self.minibatches >= 1,
            "batch_size": self.batch_size >= 1,
            "lr": 0 < self.lr < math.inf,
            "goal": 0 < self.goal <= 1,
        }
        for name, holds in fine.items():
            if not holds:
                msg = f"{name} of a trigger reversal is out of range: {getattr(self, name)!r}"
                raise InvalidInput(msg)

    def run(
        self,
        network: nn.Module,
        data: Dataset,
        *,
        targets: Sequence[int] | None = None,
        labels: Tensor | None = None,
        rng: int = 0,
        observers: Sequence[Observer] = (),
    ) -> ReversedTriggers:
        """Search stamps.

        Parameters
        ----------
        network
            From inputs to logits, in evaluation mode; it is left as it was.
        data
            Inputs to stamp.
        targets
            Classes to search; all unless given.
        labels
            Class of each row, for ``pairs``; the data's own unless given.
        rng
            Seed of starts and minibatches.
        observers
            Told after every step.

        Raises
        ------
        InvalidInput
            If a source class of ``pairs`` has no row.
        """
        state = _Search(self, network, data, targets, data.y if labels is None else labels, rng)
        watch = Observers(observers)
        watch.on_start("trigger reversal", self.steps)
        # Only stamps are trained: the network's own gradients would cost as much again.
        trained = [p for p in network.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad = False
        try:
            for step in range(self.steps):
                if not state.open.any():
                    break
                state.step()
                watch.on_step("trigger reversal", step + 1, {"open": float(state.open.sum())})
        finally:
            for parameter in trained:
                parameter.requires_grad_()
        watch.on_end("trigger reversal", {"tasks": len(state.targets)})
        return state.result()


class _Search:
    """Masks, patterns and penalties of all tasks."""

    def __init__(
        self,
        how: TriggerReversal,
        network: nn.Module,
        data: Dataset,
        targets: Sequence[int] | None,
        labels: Tensor,
        rng: int,
    ) -> None:
        self.how, self.network, self.x = how, network, data.x
        self.device = next(network.parameters()).device
        wanted = list(range(data.num_classes)) if targets is None else list(targets)
        if how.pairs:
            tasks = [(s, t) for s in range(data.num_classes) for t in wanted if s != t]
        else:
            tasks = [(-1, t) for t in wanted]
        self.sources = torch.tensor([s for s, _ in tasks])
        self.targets = torch.tensor([t for _, t in tasks])
        self.rows = [
            torch.arange(len(data)) if s < 0 else torch.nonzero(labels == s).flatten() for s, _ in tasks
        ]
        for source, rows in zip(self.sources.tolist(), self.rows, strict=True):
            if not len(rows):
                msg = f"no row of {data.name} is of class {source}; pairs need rows of every class"
                raise InvalidInput(msg)
        low, high = data.value_range
        if not math.isfinite(low) or not math.isfinite(high):
            low, high = float(data.x.min()), float(data.x.max())
        self.low, self.high = low, high
        # A source of randomness for each task: it finds what it would find alone.
        seeds = [(rng * 1_000_003 + 1009 * t + s + 1) % 2**63 for s, t in tasks]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = data.input_shape
        # One mask for all channels of a position, as a stamp would have.
        place = shape if len(shape) == 1 else (1, *shape[1:])
        self.mask, self.pattern = self._start(place), self._start(shape)
        self.optimizer = torch.optim.Adam([self.mask, self.pattern], lr=how.lr, betas=_BETAS)
        n = len(tasks)
        self.penalty = torch.zeros(n)
        self.above, self.below = torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.int64)
        self.rose, self.fell = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
        self.best = torch.full((n,), math.inf, dtype=torch.float64)
        self.stale, self.ran = torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.int64)
        self.success = torch.zeros(n, dtype=torch.float64)
        self.kept = (self._masks().detach().clone(), self._patterns().detach().clone())
        self.open = torch.ones(n, dtype=torch.bool)

    def _start(self, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.stack([torch.rand(shape, generator=generator) for generator in self.generators])
        return torch.atanh((drawn - 0.5) * 1.98).to(self.device).requires_grad_()

    def _masks(self) -> Tensor:
        return torch.tanh(self.mask) / 2 + 0.5

    def _patterns(self) -> Tensor:
        return self.low + (torch.tanh(self.pattern) / 2 + 0.5) * (self.high - self.low)

    def step(self) -> None:
        active = torch.nonzero(self.open).flatten()
        hits = torch.zeros(len(active), dtype=torch.float64)
        for _ in range(self.how.minibatches):
            hits += self._update(active)
        self._judge(active, hits / self.how.minibatches)

    def _update(self, active: Tensor) -> Tensor:
        size = self.how.batch_size
        chosen = [
            torch.randint(len(self.rows[i]), (size,), generator=self.generators[i]) for i in active.tolist()
        ]
        index = torch.stack([self.rows[i][rows] for i, rows in zip(active.tolist(), chosen, strict=True)])
        masks, patterns = self._masks()[active], self._patterns()[active]
        x = self.x[index].to(self.device)
        stamped = x * (1 - masks[:, None]) + masks[:, None] * patterns[:, None]
        logits = self.network(stamped.flatten(0, 1)).float()
        wanted = self.targets[active].repeat_interleave(size).to(self.device)
        loss = functional.cross_entropy(logits, wanted, reduction="sum") / size
        loss = loss + (self.penalty[active].to(self.device) * masks.flatten(1).sum(1)).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.optimizer.step()
        hits: Tensor = (logits.argmax(1) == wanted).view(-1, size).double().mean(1).cpu()
        return hits

    @torch.no_grad()
    def _judge(self, active: Tensor, success: Tensor) -> None:
        masks, patterns = self._masks().cpu(), self._patterns().cpu()
        norms = masks.flatten(1).sum(1).double()
        for place, share in zip(active.tolist(), success.tolist(), strict=True):
            self.ran[place] += 1
            fine = share >= self.how.goal
            smaller = fine and float(norms[place]) < float(self.best[place]) * _SLACK
            if fine and norms[place] < self.best[place]:
                self.best[place], self.success[place] = norms[place], share
                self.kept[0][place], self.kept[1][place] = masks[place], patterns[place]
            elif not torch.isfinite(self.best[place]):
                self.success[place] = share
                self.kept[0][place], self.kept[1][place] = masks[place], patterns[place]
            self.stale[place] = 0 if smaller else self.stale[place] + 1
            self._adapt(place, fine=fine)
            moved = bool(self.rose[place] and self.fell[place])
            if moved and self.stale[place] >= _STALE:
                self.open[place] = False

    def _adapt(self, place: int, *, fine: bool) -> None:
        """Raise the penalty of a mask that works, lower it where it has stopped working."""
        self.above[place] = self.above[place] + 1 if fine else 0
        self.below[place] = 0 if fine else self.below[place] + 1
        if self.above[place] >= _PATIENT:
            self.above[place] = 0
            known = float(self.penalty[place])
            self.penalty[place] = known * _GROW if known else _FIRST_PENALTY
            self.rose[place] = True
        elif self.below[place] >= _PATIENT:
            self.below[place] = 0
            self.penalty[place] /= _SHRINK
            self.fell[place] = True

    def result(self) -> ReversedTriggers:
        norms = self.kept[0].flatten(1).sum(1).double()
        return ReversedTriggers(
            self.kept[0], self.kept[1], self.targets, self.sources, norms, self.success, self.ran
        )


def anomaly_indices(norms: Tensor) -> Tensor:
    """Return how many robust deviations each value is from the median, float64 ``[n]``.

    All 0 where more than half of the values are equal.

    Examples
    --------
    >>> anomaly_indices(torch.tensor([10.0, 100, 102, 98, 101, 99, 103, 97, 100, 105]))[0].round(decimals=2)
    tensor(30.3500, dtype=torch.float64)
    """
    values = norms.double()
    # The mean of the middle two, not the lower one.
    middle = values.quantile(0.5)
    spread = (values - middle).abs().quantile(0.5) * _CONSISTENT
    return (values - middle).abs() / spread if float(spread) > 0 else torch.zeros_like(values)


def flagged(norms: Tensor, threshold: float = 2.0) -> list[int]:
    """Return the places of values that are abnormally *small*.

    Clean networks exceed 2 as well; compare with the same numbers of independent models
    before calling a flag evidence.

    Examples
    --------
    >>> flagged(torch.tensor([10.0, 100, 102, 98, 101])), flagged(torch.ones(5))
    ([0], [])
    """
    index, middle = anomaly_indices(norms), norms.double().quantile(0.5)
    return [i for i in range(len(norms)) if float(index[i]) > threshold and float(norms[i]) < float(middle)]
