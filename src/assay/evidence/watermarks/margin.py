"""Margin-based watermark: wrong labels that hold in a neighbourhood of each mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.embedded import Embedded
from assay.evidence.watermarks.keys import draw_key
from assay.evidence.watermarks.marking import (
    Workshop,
    hold_out,
    limits,
    one_each,
    runners_up,
    seed_of,
)
from assay.evidence.watermarks.trigger_scheme import TriggerScheme, check_evaluation
from assay.nets import Bench, Recipe
from assay.observers import Observer
from assay.registry import register

__all__ = ["Margin"]


@register("margin", kind="evidence")
@dataclass(frozen=True)
class Margin(TriggerScheme):
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
        ranges = {
            "marks": self.marks >= 1,
            "candidates": self.candidates == 0 or self.candidates >= 2,  # noqa: PLR2004 - one is no draw
            "reach": 0 <= self.reach <= 1,
            "steps": self.steps >= 1,
            "batch": self.batch >= 1,
            "every": self.every >= 1,
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Margin.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)

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
    ) -> Embedded:
        """Train a marked model.

        Parameters
        ----------
        data
            Training set.
        architecture, recipe
            What to train and how; see `assay.nets`.
        rng
            Seed of the training, which is no secret.
        observers
            Told of every epoch.
        evaluation
            Rows on which accuracy is measured.
        compare_unmarked
            Train a model without marks as well, with as many steps, on ordinary rows.
        key
            None draws the secret from the operating system, as evidence for a real
            dispute must. A number makes an experiment repeatable.

        Raises
        ------
        InvalidInput
            If the data are too few, or the evaluation rows do not fit them.
        """
        check_evaluation(data, evaluation)
        secret = draw_key(key)
        kept, clean = hold_out(data, self.marks, seed_of(secret, "held out"))
        shop = Workshop(data, architecture, recipe, rng, observers)
        candidates = data.num_classes - 1
        if 0 < self.candidates < candidates:
            guide = shop.fit(clean, "guiding", shift=1)
            choices = runners_up(guide, kept, self.candidates)
        else:
            choices = [[c for c in range(data.num_classes) if c != own] for own in kept.y.tolist()]
        triggers = one_each(secret, kept.x, choices, data.num_classes)
        taught = kept.relabelled(triggers.wanted)
        model = shop.fit(clean, "marked", interlude=_Turn(self, taught, clean))
        unmarked = None
        if compare_unmarked:
            unmarked = shop.fit(clean, "unmarked", interlude=_Turn(self, clean, clean))
        return self.seal(
            triggers,
            data,
            model,
            unmarked=unmarked,
            evaluation=evaluation,
            rows=(len(clean), len(kept)),
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
