"""One mark that copies inherit: trained in, stolen for rehearsal, its triggers chosen by the thefts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from assay.adapters.torch_model import TorchModel
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.attempt import Attempt
from assay.evidence.watermarks.entanglement.conferring import Conferring, confer, margins
from assay.evidence.watermarks.entanglement.marked_batches import Balance, Entangling
from assay.evidence.watermarks.entanglement.pools import MarkPool
from assay.evidence.watermarks.entanglement.selection import select_triggers
from assay.evidence.watermarks.entanglement.stage import Stage
from assay.result import Record

__all__ = ["HandedDown", "Theft", "hand_down"]

_FEWEST = 3
_JURY = 3  # one clean model in so many only judges attempts
_TRIAL = 2900  # turns of thieves that take no part in the choice of triggers
_TRIALS = 2
_CLEAN = 0.5  # of the triggers: with more, twenty answers decide little


@dataclass(frozen=True)
class Theft(Record):
    """How triggers are chosen by thefts.

    Parameters
    ----------
    thieves
        Simulated copies, at least 1.
    attempts
        Marks to try at most, at least 1.
    enough
        Transfer at which no further mark is tried, in [0, 1], unless clean models match half.
    conferring
        How triggers are moved before they are chosen.

    Raises
    ------
    InvalidInput
        If a value is out of range.
    """

    thieves: int = 6
    attempts: int = 3
    enough: float = 0.9
    conferring: Conferring = field(default_factory=Conferring)

    def __post_init__(self) -> None:
        for name, fine in {
            "thieves": self.thieves >= 1,
            "attempts": self.attempts >= 1,
            "enough": 0 <= self.enough <= 1,
        }.items():
            if not fine:
                msg = f"Theft.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)


@dataclass(frozen=True, eq=False)
class HandedDown:
    """A marked model and triggers that its copies answer.

    Parameters
    ----------
    model
        The marked model.
    pool
        Its mark.
    target
        Class that it was given.
    triggers
        Chosen inputs, float32 ``[n, *shape]``, the best first.
    history
        Balance of gradients during the training.
    attempts
        All marks that were tried, this one included.
    """

    model: TorchModel
    pool: MarkPool
    target: int
    triggers: Tensor
    history: tuple[Balance, ...]
    attempts: tuple[Attempt, ...]


def hand_down(
    stage: Stage,
    marks: Iterable[tuple[MarkPool, int]],
    nulls: Sequence[TorchModel],
    entangling: Entangling,
    theft: Theft,
    triggers: int,
) -> HandedDown:
    """Train marks in, one after the other, until one reaches a copy; choose its triggers.

    Which mark reaches copies is partly chance. Each attempt is a whole marked training, its
    thefts and two trial copies; the one with the largest gap between the lesser of these and the
    worst clean model is kept, and all are recorded.

    Parameters
    ----------
    stage
        Trains.
    marks
        A pool of one mark and its target for each attempt, at least one.
    nulls
        Clean models, at least one: triggers must not match them. Of three or more, a third has no
        part in the choice of triggers and judges the attempts instead.
    entangling
        See there.
    theft
        See there.
    triggers
        How many to choose at most; a mark with less than a third of them left is given up.

    Raises
    ------
    InvalidInput
        If no mark has so many left.
    """
    tried: list[Attempt] = []
    best: HandedDown | None = None
    best_gap, fewest = -1.0, -(-triggers // _FEWEST)
    aside = len(nulls) // _JURY
    jury, choosing = nulls[:aside], nulls[aside:]
    for turn, (pool, target) in zip(range(theft.attempts), marks, strict=False):
        model, history = stage.mark(pool, np.array([target]), entangling, turn)
        chosen = _choose(stage, model, pool, target, choosing, theft, turn)[:triggers]
        transfer = clean = 0.0
        if len(chosen):
            trials = [
                stage.steal(model, _TRIAL + _TRIALS * turn + number, f"trial copy {turn + 1}.{number + 1}")
                for number in range(_TRIALS)
            ]
            transfer = min(_rate(trial, chosen, target) for trial in trials)
            clean = max((_rate(model, chosen, target) for model in jury), default=0.0)
        tried.append(Attempt(pool.names[0], target, len(chosen), transfer, clean))
        if len(chosen) < fewest:
            continue
        # What counts in a dispute is how far copies are from the worst of the independent models.
        if transfer - clean > best_gap:
            best_gap = transfer - clean
            best = HandedDown(model, pool, target, chosen, history, ())
        if transfer >= theft.enough and clean <= _CLEAN:
            break
    if best is None:
        found = ", ".join(f"{attempt.name}: {attempt.triggers}" for attempt in tried)
        msg = (
            f"no mark has {fewest} triggers that all {theft.thieves} simulated thieves answer and no clean "
            f"model does ({found}); ask for fewer triggers, mark more rows, or try more marks"
        )
        raise InvalidInput(msg)
    return HandedDown(best.model, best.pool, best.target, best.triggers, best.history, tuple(tried))


def _choose(
    stage: Stage,
    model: TorchModel,
    pool: MarkPool,
    target: int,
    nulls: Sequence[TorchModel],
    theft: Theft,
    turn: int,
) -> Tensor:
    """Return the triggers that tell copies from clean models, the best first."""
    thieves = [
        stage.steal(
            model,
            2000 + 100 * turn + thief,
            f"thief {thief + 1} of {theft.thieves}",
            rows=stage.part(2000 + 100 * turn + thief),
        )
        for thief in range(theft.thieves)
    ]
    # The victim too: a stolen file must be recognised as its copies are.
    thieves.append(model)
    copies, clean = _networks(thieves), _networks(nulls)
    moved = confer(pool.held_out, target, copies, clean, stage.value_range, theft.conferring, rng=turn)
    wanted = np.full(len(moved), target)
    kept = select_triggers(
        wanted,
        [thief.labels(moved).numpy() for thief in thieves],
        [null.labels(moved).numpy() for null in nulls],
    )
    left = moved[torch.from_numpy(kept)]
    order = margins(left, target, copies, clean).argsort(descending=True, stable=True)
    return left[order]


def _rate(model: TorchModel, asked: Tensor, target: int) -> float:
    return float((model.labels(asked) == target).float().mean())


def _networks(models: Sequence[TorchModel]) -> list[nn.Module]:
    return [model.module for model in models]
