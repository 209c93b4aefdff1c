"""The trainings of an entangled mark: clean models, marked ones, thieves and the control."""

from __future__ import annotations

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
    Entangling,
    MarkedBatches,
    OrdinaryBatches,
)
from assay.evidence.watermarks.entanglement.pools import MarkPool
from assay.evidence.watermarks.entanglement.schedule import Schedule
from assay.evidence.watermarks.entanglement.selection import select_triggers
from assay.nets import Interlude, Recipe, build, train
from assay.observers import Observer

__all__ = ["Stage"]

IntArray = NDArray[np.int64]
_THIEVES, _PANEL = 3, 19


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
        Ordinary batches for each marked one.
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
    ratio: float
    warm_up: float
    seed: int
    observers: Sequence[Observer] = ()

    @property
    def schedule(self) -> Schedule:
        """When marked batches come."""
        steps = self.recipe.epochs * -(-len(self.data) // self.recipe.batch_size)
        return Schedule(self.ratio, round(self.warm_up * steps))

    def clean(self, turn: int, rows: Tensor | None = None) -> TorchModel:
        """Train without marks, on some rows or on all of them."""
        data = self.data if rows is None else self.data.subset(rows)
        return self._fit(data, 100 + turn, f"clean model {turn + 1}")

    def control(self) -> TorchModel:
        """Train without marks, with as many extra batches of ordinary rows as there are marked ones."""
        extra = OrdinaryBatches(self.data, self.schedule, self.recipe.batch_size)
        return self._fit(self.data, 0, "unmarked model", interlude=extra)

    def mark(
        self, pool: MarkPool, targets: IntArray, how: Entangling, turn: int = 0, task: str = "marked model"
    ) -> tuple[TorchModel, MarkedBatches]:
        """Train with every mark of the pool and its target."""
        wanted = torch.from_numpy(targets)[pool.trained_mark]
        data = self.data
        if pool.rows is not None:  # ordinary batches must not contradict the marked ones
            labels = data.y.clone()
            labels[pool.rows] = wanted
            data = data.relabelled(labels)
        batches = MarkedBatches(data, pool.trained, wanted, self.schedule, self.recipe.batch_size, how)
        return self._fit(data, turn, task, interlude=batches), batches

    def steal(self, victim: TorchModel, turn: int, task: str = "simulated copy") -> TorchModel:
        """Train a fresh network on the labels that the victim gives to the training inputs.

        The strongest thief by queries: it has the victim's own inputs, architecture and recipe.
        """
        return self._fit(self.data, 10_000 + turn, task, targets=victim.labels(self.data.x))

    def select(
        self, victim: TorchModel, triggers: Tensor, wanted: Tensor, nulls: Sequence[TorchModel], most: int
    ) -> dict[str, Tensor]:
        """Select triggers by thefts of the finished model, and ask a fresh panel about all of them.

        Returns
        -------
        dict of str to torch.Tensor
            ``selected``, positions of at most ``most`` triggers, and ``panel``, int64
            ``[19, triggers]``, the answers of models that took no part in the selection.

        Raises
        ------
        InvalidInput
            If no trigger is left.
        """
        thieves = [
            self.steal(victim, 2000 + turn, f"thief {turn + 1} of {_THIEVES}").labels(triggers).numpy()
            for turn in range(_THIEVES)
        ]
        asked = [null.labels(triggers).numpy() for null in nulls]
        kept = np.flatnonzero(select_triggers(wanted.numpy(), thieves, asked))
        if not len(kept):
            msg = (
                f"none of {len(wanted)} triggers is answered by all {_THIEVES} simulated thieves and by no "
                "clean model; these marks do not survive a theft: train longer or take another source"
            )
            raise InvalidInput(msg)
        panel = []
        for turn in range(
            _PANEL
        ):  # other rows and seeds: models that helped to select would flatter the bound
            generator = torch.Generator().manual_seed(self.seed + turn)
            rows = torch.randperm(len(self.data), generator=generator)[: round(0.8 * len(self.data))]
            panel.append(self.clean(10 + turn, rows).labels(triggers))
        return {"selected": torch.from_numpy(kept[:most]), "panel": torch.stack(panel)}

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
