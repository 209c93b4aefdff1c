"""Margin-based watermark: wrong labels that hold in a neighbourhood of each mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.evidence.watermarks.embedded import Marked, TrainedIn
from assay.evidence.watermarks.marking import Workshop, hold_out, limits, runners_up, seed_of
from assay.evidence.watermarks.trigger_scheme import Triggers, TriggerScheme
from assay.nets import Bench
from assay.registry import register

__all__ = ["Margin"]


@register("margin", kind="evidence")
@dataclass(frozen=True)
class Margin(TriggerScheme, TrainedIn[Triggers]):
    """Held-out inputs with keyed wrong labels, learned with a margin, tested exactly.

    Marks are ordinary inputs that are kept out of training. The key draws a wrong label for
    each. In turn with ordinary batches, some marks are moved by a few sign-gradient steps to
    where the network is least sure of their label, and trained on there, so that the label
    holds in a neighbourhood. A wrong label with a margin changes what the model answers
    to ordinary inputs near the mark, and so may reach a copy that never sees the mark.

    **Why the test is exact.** Inputs and candidate classes are settled before, and apart
    from, the draw of the labels. For a suspect that is independent of the key all assignments
    of candidates to marks are equally likely given its answers.

    Parameters
    ----------
    marks
        Held-out inputs, at least 1 and at most a quarter of the training set.
    candidates
        Wrong classes among which the key draws, at least 2: those that a clean model finds
        likeliest. Fewer are more plausible and reach copies better; the chance of a match is
        one in ``candidates``. 0 takes all wrong classes, as the paper does.
    reach
        Largest shift of a mark in any coordinate, as a share of the value range, 0 to 1.
    steps
        Sign-gradient steps to get there, at least 1.
    batch
        Marks in a turn, at least 1; as many ordinary rows are beside them.
    every
        Ordinary batches between two turns, at least 1.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Kim, Lee, Yang, Choi and Hwang, "Margin-based Neural Network Watermarking", ICML 2023,
    sections 3 and 4.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe
    >>> fast = Recipe(epochs=8, optimizer="adam", lr=0.005)
    >>> made = Margin(marks=40).embed(digits(), architecture="mlp-64", recipe=fast, key=1)
    >>> made.evidence.verify(made.model).decision
    'stolen'
    """

    scheme: ClassVar[str] = "margin"

    marks: int = 20
    candidates: int = 3
    reach: float = 0.1
    steps: int = 5
    batch: int = 20
    every: int = 1

    def __post_init__(self) -> None:
        self._check("marks", fine=self.marks >= 1)
        self._check("candidates", fine=self.candidates >= 0 and self.candidates != 1)  # one is no draw
        self._check("reach", fine=0 <= self.reach <= 1)
        self._check("steps", fine=self.steps >= 1)
        self._check("batch", fine=self.batch >= 1)
        self._check("every", fine=self.every >= 1)

    def mark(self, shop: Workshop, key: str) -> Marked[Triggers]:
        """Train with turns on the marks; the control takes as many steps, on ordinary rows.

        Raises
        ------
        InvalidInput
            If the data are too few.
        """
        kept, clean = hold_out(shop.data, self.marks, seed_of(key, "held out"))
        classes = shop.data.num_classes
        if 0 < self.candidates < classes - 1:
            guide = shop.fit(clean, "guiding", shift=1)
            choices = runners_up(guide, kept, self.candidates)
        else:
            choices = [[c for c in range(classes) if c != own] for own in kept.y.tolist()]
        triggers = Triggers.one_each(key, kept.x, choices, classes)
        taught = kept.relabelled(triggers.wanted)
        return Marked(
            triggers,
            shop.fit(clean, "marked", interlude=_Turn(self, taught, clean)),
            lambda: shop.fit(clean, "unmarked", interlude=_Turn(self, clean, clean)),
            (len(clean), len(kept)),
        )


class _Turn:
    """Trains on marks, moved to where their labels are least sure, beside ordinary rows."""

    def __init__(self, how: Margin, marks: Dataset, clean: Dataset) -> None:
        self.how, self.marks, self.clean = how, marks, clean
        self.low, self.high = limits(clean)
        self.step = how.reach / how.steps * (self.high - self.low)

    def __call__(self, bench: Bench, done: int, generator: torch.Generator) -> None:
        if done % self.how.every:
            return
        marked = _some(self.marks, self.how.batch, generator)
        ordinary = _some(self.clean, self.how.batch, generator)
        x, y = self.marks.x[marked], self.marks.y[marked]
        if self.marks is not self.clean:
            x = self._ascend(bench, x, y)
        both = torch.cat([x, self.clean.x[ordinary]])
        logits = bench.forward(both)
        labels = torch.cat([y, self.clean.y[ordinary]]).to(logits.device)
        bench.descend(functional.cross_entropy(logits, labels))

    def _ascend(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(self.how.steps):
            x = x.detach().requires_grad_()
            logits = bench.forward(x)
            (slope,) = torch.autograd.grad(functional.cross_entropy(logits, y.to(logits.device)), x)
            x = (x.detach() + self.step * slope.sign()).clamp(self.low, self.high)
        return x.detach()


def _some(rows: Dataset, count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(rows), generator=generator)[:count]
