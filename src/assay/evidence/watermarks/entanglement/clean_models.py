"""Models without marks: who says where classes touch, who judges triggers, who bounds independent models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.evidence.watermarks.entanglement.shift import unseen_scores
from assay.evidence.watermarks.entanglement.stage import Stage

__all__ = ["CleanModels", "Keep", "train_anew"]

Keep = Callable[[str, Callable[[], TorchModel]], TorchModel]
"""From the name of a model and its training to the model: an experiment can keep models on disk."""


def train_anew(name: str, training: Callable[[], TorchModel]) -> TorchModel:  # noqa: ARG001 - nothing is kept
    """Train the model, keep nothing."""
    return training()


@dataclass(frozen=True, eq=False)
class CleanModels:
    """Clean models that one key needs and several can share; each is trained when it is first asked for.

    A thief or a marked model never is among them, so that sharing them tells no key anything of
    another. Verdicts of keys that share a panel are not independent of each other.

    Parameters
    ----------
    whole
        All rows of the owner.
    stage
        Trains on the rows that are not held out.
    held_out
        Rows that triggers start from; None where they start from synthetic inputs.
    order
        Permutation of the rows that are trained on; its halves are the folds.
    judges, panel
        How many clean models choose the triggers, and how many others bound what independent models answer.
    keep
        See `Keep`.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe
    >>> data = digits()
    >>> stage = Stage(data, "mlp-8", Recipe(epochs=2, optimizer="adam", lr=0.01), None, 0.0, 0)
    >>> clean = CleanModels(data, stage, None, torch.arange(len(data)), judges=2, panel=3)
    >>> len(clean.judging), tuple(clean.scores.shape), tuple(clean.answers(data.x[:5]).shape)
    (2, (1797, 10), (3, 5))
    """

    whole: Dataset
    stage: Stage
    held_out: Dataset | None
    order: Tensor
    judges: int
    panel: int
    keep: Keep = train_anew

    @cached_property
    def judging(self) -> list[TorchModel]:
        """Models that triggers must not match."""
        return [self._part(f"judge {turn}", 10 + turn) for turn in range(self.judges)]

    @cached_property
    def scores(self) -> Tensor:
        """What models say of rows that they were not trained on, see `unseen_scores`."""

        def fold(turn: int, rows: Tensor) -> TorchModel:
            return self.keep(f"fold {turn}", lambda: self.stage.clean(turn, rows))

        return unseen_scores(self.stage.data, self.order, fold)

    @cached_property
    def bounding(self) -> list[TorchModel]:
        """Models that took part in no choice: those that helped to choose what is asked would flatter."""
        return [self._part(f"panel {turn}", 1000 + turn) for turn in range(self.panel)]

    def answers(self, asked: Tensor) -> Tensor:
        """Return what the panel answers, int64 ``[models, rows asked]``."""
        return torch.stack([model.labels(asked) for model in self.bounding])

    def _part(self, name: str, turn: int) -> TorchModel:
        return self.keep(name, lambda: self.stage.clean(turn, self.stage.part(turn)))
