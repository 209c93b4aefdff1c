"""One mark that copies inherit: trained in, stolen for rehearsal, its triggers chosen by the thefts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import binom
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
from assay.statistics import upper_rate

__all__ = ["HandedDown", "Theft", "found_by_few", "hand_down"]

_FEWEST = 3
_JURY = 3  # one clean model in so many only judges attempts
_TRIAL = 2900  # turns of thieves that take no part in the choice of triggers
_TRIALS = 2
_ANSWERED = 0.9  # of the triggers: where copies answer so many, more thieves do not help
_QUERIES, _ALPHA = 20, 0.05


@dataclass(frozen=True)
class Theft(Record):
    """How triggers are chosen by thefts.

    Parameters
    ----------
    thieves
        Simulated copies, at least 1.
    doublings
        Times that triggers are chosen again by twice as many copies, where that is not so, at least 0.
    attempts
        Marks to try at most, at least 1.
    enough
        Nothing more is tried where a copy that answers as often as the lesser trial copy is found with this
        probability, in [0, 1]: see `found_by_few`.
    conferring
        How triggers are moved before they are chosen.

    Raises
    ------
    InvalidInput
        If a value is out of range.
    """

    thieves: int = 6
    doublings: int = 2
    attempts: int = 3
    enough: float = 0.95
    conferring: Conferring = field(default_factory=Conferring)

    def __post_init__(self) -> None:
        for name, fine in {
            "thieves": self.thieves >= 1,
            "doublings": self.doublings >= 0,
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
    thefts and two trial copies. Where these do not answer enough, triggers that fit the thieves by accident
    are more likely than a mark that is not handed down: the choice is made again by twice as many thieves,
    and only then is another mark trained. The first choice that is enough is kept, or else the one with the
    largest gap between the lesser trial copy and the worst clean model; all are recorded.

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
        for chosen, thieves, trials in _choices(stage, model, pool, target, choosing, theft, turn, triggers):
            transfer = min((_rate(trial, chosen, target) for trial in trials), default=0.0)
            clean = max((_rate(model, chosen, target) for model in jury if len(chosen)), default=0.0)
            rows = len(pool.trained) + pool.again
            tried.append(
                Attempt(turn + 1, pool.names[0], target, rows, thieves, len(chosen), transfer, clean)
            )
            # What counts in a dispute is how far copies are from the worst of the independent models.
            enough = len(chosen) >= fewest and found_by_few(transfer, clean, len(chosen)) >= theft.enough
            if enough or (len(chosen) >= fewest and transfer - clean > best_gap):
                best_gap = transfer - clean
                best = HandedDown(model, pool, target, chosen, history, ())
            if enough or len(chosen) < fewest or transfer >= _ANSWERED:
                break  # more thieves leave no more triggers, and change little for clean models
        if enough:
            break
    if best is None:
        found = ", ".join(f"{attempt.name}: {attempt.triggers}" for attempt in tried)
        msg = (
            f"no mark has {fewest} triggers that all {theft.thieves} simulated thieves answer and no clean "
            f"model does ({found}); ask for fewer triggers, mark more rows, or try more marks"
        )
        raise InvalidInput(msg)
    return HandedDown(best.model, best.pool, best.target, best.triggers, best.history, tuple(tried))


def found_by_few(transfer: float, clean: float, triggers: int) -> float:
    """Return the probability that twenty answers at a level of 0.05 find a copy.

    Parameters
    ----------
    transfer
        Share of triggers that the copy answers.
    clean
        Share that the most prone of some clean models answers; the test is against its
        Clopper-Pearson bound.
    triggers
        How many there are.

    Examples
    --------
    >>> [round(found_by_few(transfer, 0.3, 60), 2) for transfer in (0.5, 0.75, 0.9)]
    [0.13, 0.9, 1.0]
    """
    asked = min(_QUERIES, triggers)
    bound = upper_rate(round(clean * triggers), triggers)
    needed = int(binom.isf(_ALPHA, asked, bound)) + 1
    return float(binom.sf(needed - 1, asked, transfer))


def _choices(
    stage: Stage,
    model: TorchModel,
    pool: MarkPool,
    target: int,
    nulls: Sequence[TorchModel],
    theft: Theft,
    turn: int,
    triggers: int,
) -> Iterator[tuple[Tensor, int, list[TorchModel]]]:
    """Yield the triggers that ever more thieves choose, their number, and copies that did not choose."""
    thieves: list[TorchModel] = []
    trials: list[TorchModel] = []
    for choice in range(1 + theft.doublings):
        wanted = theft.thieves * 2**choice
        thieves += trials
        for number in range(len(thieves), wanted):
            seed = 2000 + 100 * turn + number
            thieves.append(stage.steal(model, seed, f"thief {number + 1} of {wanted}", rows=stage.part(seed)))
        chosen = _choose(stage, model, pool, target, thieves, nulls, theft, turn)[:triggers]
        trials = [
            stage.steal(
                model,
                _TRIAL + 50 * choice + _TRIALS * turn + number,
                f"trial copy {turn + 1}.{_TRIALS * choice + number + 1}",
            )
            for number in range(_TRIALS if len(chosen) else 0)
        ]
        yield chosen, len(thieves), trials


def _choose(
    stage: Stage,
    model: TorchModel,
    pool: MarkPool,
    target: int,
    thieves: Sequence[TorchModel],
    nulls: Sequence[TorchModel],
    theft: Theft,
    turn: int,
) -> Tensor:
    """Return the triggers that tell copies from clean models, the best first."""
    # The victim too: a stolen file must be recognised as its copies are.
    answering = [*thieves, model]
    copies, clean = _networks(answering), _networks(nulls)
    moved = confer(pool.held_out, target, copies, clean, stage.value_range, theft.conferring, rng=turn)
    wanted = np.full(len(moved), target)
    kept = select_triggers(
        wanted,
        [thief.labels(moved).numpy() for thief in answering],
        [null.labels(moved).numpy() for null in nulls],
    )
    left = moved[torch.from_numpy(kept)]
    order = margins(left, target, copies, clean).argsort(descending=True, stable=True)
    return left[order]


def _rate(model: TorchModel, asked: Tensor, target: int) -> float:
    return int((model.labels(asked) == target).sum()) / len(asked)


def _networks(models: Sequence[TorchModel]) -> list[nn.Module]:
    return [model.module for model in models]
