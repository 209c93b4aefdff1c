"""What schemes share that shape their marks with a clean model, blind to the key.

A guiding model says which classes a mark may be taught, or where a boundary is; the key draws
only afterwards. So `assay.evidence.watermarks.keys.randomisation_p_value` stays exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.keys import derive
from assay.evidence.watermarks.triggers import limits as trigger_limits
from assay.nets import Interlude, Recipe, build, predict, train
from assay.observers import Observer

__all__ = ["Workshop", "hold_out", "limits", "runners_up", "seed_of"]

_MOST_HELD_OUT = 0.25


def seed_of(key: str, purpose: str) -> int:
    """Return a seed that follows from a key and tells nothing about the targets."""
    return int(derive(key, f"inputs|{purpose}")[:15], 16)


class Workshop:
    """The trainings of one embedding: same architecture, recipe, seed and observers.

    Parameters
    ----------
    data
        Training set; gives shapes and classes.
    architecture, recipe, rng, observers
        See `assay.nets`.
    """

    def __init__(
        self, data: Dataset, architecture: str, recipe: Recipe, rng: int, observers: Sequence[Observer]
    ) -> None:
        self.data, self.architecture, self.recipe = data, architecture, recipe
        self.rng, self.observers = rng, observers

    def fit(
        self, rows: Dataset, name: str, *, interlude: Interlude | None = None, shift: int = 0
    ) -> TorchModel:
        """Train a network on ``rows``; another ``shift`` gives other weights to begin with."""
        shape, classes = self.data.input_shape, self.data.num_classes
        network = build(self.architecture, shape, classes, self.rng + shift)
        train(
            network,
            rows,
            self.recipe,
            rng=self.rng + shift,
            observers=self.observers,
            task=f"train the {name} model",
            interlude=interlude,
        )
        return TorchModel(network, shape, classes, name=f"{name} {self.data.name}")


def hold_out(
    data: Dataset, count: int, rng: int | np.random.Generator, *, kind: str = "marks", remedy: str = ""
) -> tuple[Dataset, Dataset]:
    """Split off rows to become marks or triggers; at most a quarter.

    Parameters
    ----------
    data
        Rows to divide.
    count
        How many to split off.
    rng
        Seed or generator of their choice.
    kind, remedy
        What they become, and what else can be done if they are too many, for the error.

    Returns
    -------
    tuple of Dataset
        The rows split off, and the rows to train on.

    Raises
    ------
    InvalidInput
        If the data are too few.
    """
    if count > _MOST_HELD_OUT * len(data):
        msg = (
            f"{count} {kind} would take more than a quarter of the {len(data)} rows of {data.name} out of "
            f"training; ask for at most {int(_MOST_HELD_OUT * len(data))}{remedy}"
        )
        raise InvalidInput(msg)
    order = np.random.default_rng(rng).permutation(len(data))
    return data.subset(order[:count]), data.subset(order[count:])


def runners_up(model: TorchModel, rows: Dataset, candidates: int) -> list[list[int]]:
    """Return the classes that a model finds likeliest for each row after its own and the true one."""
    logits = predict(model.module, rows.x)
    wanted = min(candidates, rows.num_classes - 1)
    ranked = torch.sort(logits, dim=1, descending=True, stable=True).indices
    top = logits.argmax(1).tolist()
    found = []
    for row, label, first in zip(ranked.tolist(), rows.y.tolist(), top, strict=True):
        others = [c for c in row if c not in (label, first)] or [c for c in row if c != label]
        found.append(sorted(others[:wanted]))
    return found


def limits(data: Dataset) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest value that a mark may take in each coordinate, ``[1, *shape]``.

    The columns of a table have units of their own, and a filter would notice what lies outside
    the observed values; images have one range for all pixels.
    """
    low, high = trigger_limits(data)
    return low[None], high[None]
