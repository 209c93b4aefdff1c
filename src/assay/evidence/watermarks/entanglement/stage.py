"""The trainings of an entangled mark: clean models, marked ones, thieves and the control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.marked_batches import (
    Balance,
    Entangling,
    MarkedBatches,
    OrdinaryBatches,
)
from assay.evidence.watermarks.entanglement.pools import MarkPool
from assay.evidence.watermarks.entanglement.schedule import Schedule
from assay.nets import Interlude, Recipe, build, train
from assay.observers import Observer

__all__ = ["Stage"]

IntArray = NDArray[np.int64]
_PART = 0.8
# Not the seed of a marked model: with the same start and order of rows the control would have the same
# accidents, and triggers that copies agree on are partly those.
_CONTROL = 9000


@dataclass(frozen=True, eq=False)
class Stage:
    """Everything that the trainings have in common.

    Parameters
    ----------
    data
        Rows to train on.
    architecture, recipe
        Of every network.
    ratio
        Ordinary batches for each marked one; None for no marked batches, where marks are rows
        of the training set whose labels follow them.
    warm_up
        Share of the ordinary batches before the first marked one, in [0, 1).
    seed
        Networks get seeds counted from here.
    observers
        Told of every epoch.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> fast = Recipe(epochs=2, optimizer="adam", lr=0.01)
    >>> stage = Stage(digits(), "mlp-16", fast, ratio=2.0, warm_up=0.5, seed=0)
    >>> victim = stage.clean(0)
    >>> stage.steal(victim, 1).num_classes, stage.schedule.warm_up
    (10, 15)
    """

    data: Dataset
    architecture: str
    recipe: Recipe
    ratio: float | None
    warm_up: float
    seed: int
    observers: Sequence[Observer] = ()

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value of an input."""
        low, high = self.data.value_range
        if math.isfinite(low) and math.isfinite(high):
            return low, high
        return float(self.data.x.min()), float(self.data.x.max())

    @property
    def schedule(self) -> Schedule | None:
        """When marked batches come, if they do."""
        if self.ratio is None:
            return None
        steps = self.recipe.epochs * -(-len(self.data) // self.recipe.batch_size)
        return Schedule(self.ratio, round(self.warm_up * steps))

    def clean(self, turn: int, rows: Tensor | None = None) -> TorchModel:
        """Train without marks, on some rows or on all of them."""
        data = self.data if rows is None else self.data.subset(rows)
        return self._fit(data, 100 + turn, f"clean model {turn + 1}")

    def control(self, again: int = 0) -> TorchModel:
        """Train without marks, with as many rows more as the marks of a marked model are.

        Parameters
        ----------
        again
            Rows that an epoch of the marked model has more where there are no marked batches.
        """
        plan = self.schedule
        if plan is not None:
            extra = OrdinaryBatches(self.data, plan, self.recipe.batch_size)
            return self._fit(self.data, _CONTROL, "unmarked model", interlude=extra)
        generator = torch.Generator().manual_seed(self.seed)
        more = torch.randint(len(self.data), (again,), generator=generator)
        rows = torch.cat([torch.arange(len(self.data)), more])
        return self._fit(self.data.subset(rows), _CONTROL, "unmarked model")

    def mark(
        self, pool: MarkPool, targets: IntArray, how: Entangling, turn: int = 0, task: str = "marked model"
    ) -> tuple[TorchModel, tuple[Balance, ...]]:
        """Train with every mark of the pool and its target; return the balance of gradients as well.

        Raises
        ------
        InvalidInput
            If marks that are no rows of the training set get no batches.
        """
        wanted = torch.from_numpy(targets)[pool.trained_mark]
        data = self.data
        if pool.rows is not None:  # ordinary batches must not contradict the marked ones
            labels = data.y.clone()
            labels[pool.rows] = wanted
            data = data.relabelled(labels)
        plan = self.schedule
        if plan is None:
            if pool.rows is None:
                msg = "marks that are no rows of the training set need marked batches; give a ratio"
                raise InvalidInput(msg)
            again = pool.rows.repeat(pool.repeats - 1)
            return self._fit(data.subset(torch.cat([torch.arange(len(data)), again])), turn, task), ()
        batches = MarkedBatches(data, pool.trained, wanted, plan, self.recipe.batch_size, how)
        return self._fit(data, turn, task, interlude=batches), tuple(batches.history)

    def steal(
        self, victim: TorchModel, turn: int, task: str = "simulated copy", rows: Tensor | None = None
    ) -> TorchModel:
        """Train a fresh network on the labels that the victim gives to the training inputs, or to some.

        The strongest thief by queries: it has the victim's own inputs, architecture and recipe.
        """
        data = self.data if rows is None else self.data.subset(rows)
        return self._fit(data, 10_000 + turn, task, targets=victim.labels(data.x))

    def part(self, turn: int) -> Tensor:
        """Return the positions of four rows in five: models of other rows differ more than by chance."""
        generator = torch.Generator().manual_seed(self.seed + turn)
        return torch.randperm(len(self.data), generator=generator)[: round(_PART * len(self.data))]

    def _fit(
        self,
        data: Dataset,
        turn: int,
        task: str,
        *,
        targets: Tensor | None = None,
        interlude: Interlude | None = None,
    ) -> TorchModel:
        seed = self.seed + turn
        network = build(self.architecture, data.input_shape, data.num_classes, seed)
        train(
            network,
            data,
            self.recipe,
            targets=targets,
            rng=seed,
            observers=self.observers,
            task=f"train the {task}",
            interlude=interlude,
        )
        return TorchModel(network, data.input_shape, data.num_classes, name=f"{task} of {data.name}")
