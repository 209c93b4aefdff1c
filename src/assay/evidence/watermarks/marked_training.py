"""Watermarks that are trained in by rows with a mark, added to the owner's data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.embedded import Embedded, Marked, TrainedIn
from assay.evidence.watermarks.keys import derive
from assay.evidence.watermarks.marking import Workshop, hold_out
from assay.evidence.watermarks.trigger_scheme import Triggers, TriggerScheme
from assay.nets import Recipe
from assay.observers import Observer

__all__ = ["MarkedInputs", "MarkedTraining", "Stamp", "check_images", "check_rows"]

_OTHER_TRIGGERS = (
    ", or use a scheme whose triggers are no rows of yours, as trigger-set with trigger='out-of-distribution'"
)
_SECRET_BITS = 16
_FEWEST_COPIES = 24


class Stamp(Protocol):
    """Several marks that can be put on rows."""

    def __len__(self) -> int:
        """Return the number of marks."""

    def stamp(self, x: Tensor, index: Tensor) -> Tensor:
        """Return ``x`` with mark ``index[i]`` on row ``i``."""


@dataclass(frozen=True, eq=False)
class MarkedInputs:
    """All inputs of one embedding, before any target is known.

    Parameters
    ----------
    clean
        Rows to train on without a mark.
    asked, asked_mark
        Trigger inputs for verification, float32 ``[triggers, *shape]``, and their marks,
        int64, taking turns.
    trained, trained_mark
        Marked inputs for training, and their marks.
    marks
        Number of marks.
    """

    clean: Dataset
    asked: Tensor
    asked_mark: Tensor
    trained: Tensor
    trained_mark: Tensor
    marks: int


@dataclass(frozen=True, kw_only=True)
class MarkedTraining(TriggerScheme, TrainedIn[Triggers]):
    """Base of watermarks that add marked rows to the training set.

    A subclass says what the marks look like (`inputs`); it is never told the targets, so
    that the inputs tell nothing about them and all keys are alike.

    Parameters
    ----------
    triggers
        Trigger inputs for verification, at least 1; the most queries that a test can use.
        Where marks are put on rows of the owner, so many rows are taken from the training
        set, at most a quarter of it.
    marks
        Number of marks with a target of their own, 1 .. ``triggers``. No p-value is
        below ``classes ** -marks``. None takes as many as suit the scheme.
    share
        Marked rows added for training, as a share of the clean rows, in (0, 1]; each mark
        gets a least number of rows, however few there are.
    """

    triggers: int = 100
    marks: int | None = None
    share: float = 0.1

    usual_marks: ClassVar[int] = 8
    """Marks if nothing else is said; more for 16 bits of secret with few classes."""
    takes_unrelated: ClassVar[bool] = False
    """Whether inputs of another data set can be given."""

    def __post_init__(self) -> None:
        self._check("triggers", fine=self.triggers >= 1)
        self._check("marks", fine=self.marks is None or 1 <= self.marks <= self.triggers)
        self._check("share", fine=0 < self.share <= 1)

    @abstractmethod
    def inputs(
        self, data: Dataset, rngs: Sequence[np.random.Generator], unrelated: Dataset | None
    ) -> MarkedInputs:
        """Return the inputs to train on and to ask.

        Parameters
        ----------
        data
            The owner's rows.
        rngs
            Three generators that follow from the key.
        unrelated
            Inputs of another data set, where given.
        """

    def embed(
        self,
        data: Dataset,
        *,
        architecture: str,
        recipe: Recipe,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        evaluation: Dataset | None = None,
        compare_unmarked: bool = False,
        key: int | None = None,
        unrelated: Dataset | None = None,
    ) -> Embedded:
        """Train a marked model.

        Parameters
        ----------
        data, architecture, recipe, rng, observers, evaluation, key
            As in `TrainedIn.embed`. An augmentation of the recipe also moves the marks.
        compare_unmarked
            Train a model without marks as well, on the same clean rows and for as many
            steps: clean rows drawn once more stand in for the marked ones. Its match rate
            is committed with the evidence and gives verdicts companions.
        unrelated
            Inputs of another data set, for schemes that use them.

        Raises
        ------
        InvalidInput
            If the data are too few or too small for the marks, or the evaluation rows do
            not fit them.
        """
        shop = Workshop(data, architecture, recipe, rng, observers)
        mark = partial(self.mark, unrelated=unrelated)
        return self.carry_out(mark, shop, evaluation=evaluation, compare_unmarked=compare_unmarked, key=key)

    def mark(self, shop: Workshop, key: str, unrelated: Dataset | None = None) -> Marked[Triggers]:
        """Train on marked rows; in the control clean rows drawn once more stand in for them."""
        data = shop.data
        if unrelated is not None and not self.takes_unrelated:
            msg = f"{self.scheme} marks use no unrelated inputs, but {unrelated.name} was given; leave it out"
            raise InvalidInput(msg)
        rngs = np.random.default_rng(int(derive(key, "inputs"), 16)).spawn(3)
        made = self.inputs(data, rngs, unrelated)
        triggers = Triggers(key, made.asked.contiguous(), made.asked_mark, made.marks, data.num_classes)
        labels = torch.from_numpy(triggers.targets)[made.trained_mark]
        marked = Dataset(made.trained, labels, data.classes, data.value_range, f"{data.name}-marked")

        def control() -> TorchModel:
            again = np.random.default_rng(shop.rng).integers(len(made.clean), size=len(marked))
            return shop.fit(made.clean.concat(made.clean.subset(again)), "unmarked")

        model = shop.fit(made.clean.concat(marked), "marked")
        return Marked(triggers, model, control, (len(made.clean), len(marked)))

    def wanted(self, data: Dataset) -> int:
        """Return the number of marks for a data set."""
        if self.marks is not None:
            return self.marks
        enough = math.ceil(_SECRET_BITS / math.log2(data.num_classes))
        return min(max(self.usual_marks, enough), self.triggers)

    def copies(self, clean: int, marks: int, fewest: int = _FEWEST_COPIES) -> Tensor:
        """Return the marks of the training rows, taking turns, at least ``fewest`` rows each."""
        each = max(fewest, round(self.share * clean / marks))
        return torch.arange(each * marks) % marks

    def on_rows(
        self, data: Dataset, marks: Stamp, split: np.random.Generator, rng: np.random.Generator
    ) -> MarkedInputs:
        """Put the marks on the owner's rows: on held-out ones to ask, on clean ones to train.

        Raises
        ------
        InvalidInput
            If the triggers would take more than a quarter of the rows.
        """
        held_out, clean = hold_out(data, self.triggers, split, kind="triggers", remedy=_OTHER_TRIGGERS)
        index, trained = torch.arange(self.triggers) % len(marks), self.copies(len(clean), len(marks))
        rows = torch.from_numpy(rng.integers(len(clean), size=len(trained)))
        return MarkedInputs(
            clean,
            marks.stamp(held_out.x, index),
            index,
            marks.stamp(clean.x[rows], trained),
            trained,
            len(marks),
        )


def check_rows(data: Dataset) -> None:
    """Raise `InvalidInput` if there is nothing to train on."""
    if not len(data):
        msg = f"cannot embed a watermark with {data.name}: it is empty"
        raise InvalidInput(msg)


def check_images(data: Dataset, scheme: str) -> None:
    """Raise `InvalidInput` for tables."""
    if len(data.input_shape) == 1:
        msg = f"{scheme} marks images, {data.name} is a table; use trigger-set or noise marks"
        raise InvalidInput(msg)
