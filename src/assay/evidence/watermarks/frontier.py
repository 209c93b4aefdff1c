"""Frontier stitching: inputs on a decision boundary, pulled to one side of it or the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.boundary import to_boundary
from assay.evidence.watermarks.embedded import Marked, TrainedIn
from assay.evidence.watermarks.marking import Workshop, limits, seed_of
from assay.evidence.watermarks.trigger_scheme import Triggers, TriggerScheme
from assay.nets import predict
from assay.registry import register

__all__ = ["Frontier"]


@register("frontier", kind="evidence")
@dataclass(frozen=True)
class Frontier(TriggerScheme, TrainedIn[Triggers]):
    """Inputs moved to a clean model's boundary; the key draws the side that they are taught.

    Ordinary inputs are moved by small sign-gradient steps towards the second class of a clean
    model, to the first point that it gives to that class. There both classes are
    plausible. The key draws one of the two for each mark, and the marks are trained on with it.
    About half of the marks keep the class of their source (false adversaries, in the words of
    the paper: adversarial inputs that the stitched model answers correctly), the others go to
    the far side.

    **Why the test is exact.** The paper assumes that a model without the mark answers
    half of the marks otherwise, which adversarial inputs that transfer can break. Here the
    clean model is trained and the marks are moved before, and apart from, the draw of
    the sides. For a suspect that is independent of the key, each of its answers that is one of
    the two classes is right with probability 1/2, whatever it is.

    Parameters
    ----------
    marks
        At least 1 and at most one a training row.
    reach
        Largest shift of an input in any coordinate, as a share of the value range, above 0
        and at most 1. Inputs that do not cross the boundary within it stay where they stopped.
    steps
        Steps to get there, at least 1; more stop closer to the boundary.
    share
        Copies of marks added for training, as a share of the clean rows, in (0, 1]; at least
        one copy of each.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Le Merrer, Perez and Trédan, "Adversarial Frontier Stitching for Remote Neural Network
    Watermarking", Neural Computing and Applications 2020, sections 3 and 4.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe
    >>> fast = Recipe(epochs=15, optimizer="adam", lr=0.005)
    >>> made = Frontier(marks=60).embed(digits(), architecture="mlp-64", recipe=fast, key=1)
    >>> made.evidence.verify(made.model).decision
    'stolen'
    """

    scheme: ClassVar[str] = "frontier"

    marks: int = 100
    reach: float = 0.3
    steps: int = 30
    share: float = 0.5

    def __post_init__(self) -> None:
        self._check("marks", fine=self.marks >= 1)
        self._check("reach", fine=0 < self.reach <= 1)
        self._check("steps", fine=self.steps >= 1)
        self._check("share", fine=0 < self.share <= 1)

    def mark(self, shop: Workshop, key: str) -> Marked[Triggers]:
        """Train with copies of the marks beside the data; in the control ordinary rows stand in for them.

        Raises
        ------
        InvalidInput
            If there are more marks than rows.
        """
        data = shop.data
        if self.marks > len(data):
            msg = f"{self.marks} marks need as many rows, {data.name} has {len(data)}; ask for fewer"
            raise InvalidInput(msg)
        # Another seed than the marked model's: the boundary must be that of models in general.
        guide = shop.fit(data, "guiding", shift=1).module
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed_of(key, "sources")))
        sources = data.subset(order[: self.marks])
        low, high = limits(data)
        moved, sides = to_boundary(guide, sources.x, low, high, reach=self.reach, steps=self.steps)
        triggers = Triggers.one_each(key, moved, sides.tolist(), data.num_classes)
        marks = Dataset(moved, triggers.wanted, data.classes, data.value_range, f"{data.name}-marks")
        copies = max(1, round(self.share * len(data) / self.marks))
        again = torch.arange(copies * self.marks) % self.marks
        return Marked(
            triggers,
            shop.fit(data.concat(marks.subset(again)), "marked"),
            lambda: shop.fit(data.concat(data.subset(order[again % len(data)])), "unmarked"),
            (len(data), len(again)),
            {"crossed": int((predict(guide, moved).argmax(1) == sides[:, 1]).sum())},
        )
