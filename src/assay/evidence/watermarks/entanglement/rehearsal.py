"""Rehearsing the theft under other keys: which marks and targets reach a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput

__all__ = ["Cast", "Rehearsals", "choose_marks", "draw_rehearsals", "rehearse"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rehearsals:
    """What copies of models with rehearsal keys answered.

    Parameters
    ----------
    targets
        Target of each mark in each rehearsal, int64 ``[rehearsals, marks]``; -1 where it
        took no part.
    matched
        Whether a copy answered the target of a trigger's mark, bool
        ``[rehearsals, triggers]``.
    asked
        Whether a trigger's mark took part, bool ``[rehearsals, triggers]``.
    """

    targets: IntArray
    matched: BoolArray
    asked: BoolArray

    @property
    def transfer(self) -> float:
        """Share of all answers that matched, before anything is chosen."""
        return float(self.matched.sum() / max(1, self.asked.sum()))


@dataclass(frozen=True)
class Cast:
    """Marks, candidate targets and triggers that were chosen.

    Parameters
    ----------
    marks
        Positions of the chosen marks among those rehearsed.
    choices
        Candidate targets of each.
    triggers
        Positions of the chosen triggers of each mark, equally many.
    transfer
        Share of the chosen triggers that matched in rehearsals, drawn halfway to the
        mean of their marks; still too high, for it is the largest of many.
    """

    marks: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    triggers: tuple[tuple[int, ...], ...]
    transfer: float


def draw_rehearsals(
    plausible: Sequence[Sequence[int]], rehearsals: int, rng: np.random.Generator, most: int | None = None
) -> IntArray:
    """Draw targets for rehearsals: marks take turns, and so do the candidates of each.

    Parameters
    ----------
    plausible
        Candidate targets of each mark; a mark without any is never rehearsed.
    rehearsals
        How many.
    rng
        Source that is independent of the true key.
    most
        Marks of one rehearsal; all unless given. Marks compete for a network, so that a
        rehearsal should have as many as the model will have.

    Returns
    -------
    numpy.ndarray
        int64 ``[rehearsals, marks]``; -1 where a mark is not rehearsed.

    Examples
    --------
    >>> drawn = draw_rehearsals([[1, 2], [3, 4, 5]], 6, np.random.default_rng(0))
    >>> np.bincount(drawn[:, 0]).tolist(), np.bincount(drawn[:, 1]).tolist()
    ([0, 3, 3], [0, 0, 0, 2, 2, 2])
    >>> (draw_rehearsals([[1, 2]] * 4, 6, np.random.default_rng(0), most=2) >= 0).sum(0).tolist()
    [3, 3, 3, 3]
    """
    able = np.array([j for j, classes in enumerate(plausible) if len(classes)], dtype=np.int64)
    orders = [rng.permutation(np.asarray(classes, dtype=np.int64)) for classes in plausible]
    drawn = np.full((rehearsals, len(plausible)), -1, dtype=np.int64)
    waiting: list[int] = []
    seen = [0] * len(plausible)
    for row in drawn:
        wanted = len(able) if most is None else min(most, len(able))
        cast = waiting[:wanted]
        del waiting[: len(cast)]
        if len(cast) < wanted:  # a new round; nobody is in one rehearsal twice
            fresh = [int(j) for j in rng.permutation(able)]
            rest = [j for j in fresh if j not in cast][: wanted - len(cast)]
            waiting = [j for j in fresh if j not in rest]
            cast += rest
        for j in cast:
            row[j] = orders[j][seen[j] % len(orders[j])]
            seen[j] += 1
    return drawn


def rehearse(targets: IntArray, mark: IntArray, answers: Callable[[int, IntArray], IntArray]) -> Rehearsals:
    """Train, steal and ask once for each row of targets.

    Parameters
    ----------
    targets
        From `draw_rehearsals`.
    mark
        Mark of each trigger, int64 ``[triggers]``.
    answers
        From a rehearsal's number and targets to what a copy of a model so marked answers
        to the triggers, int64 ``[triggers]``.

    Examples
    --------
    >>> copy_that_answers_one = lambda turn, targets: np.ones(2, dtype=np.int64)
    >>> rehearse(np.array([[1, 2]]), np.array([0, 1]), copy_that_answers_one).matched.tolist()
    [[True, False]]
    """
    shape = (len(targets), len(mark))
    wanted = targets[:, mark].reshape(shape)
    given = [answers(turn, row) for turn, row in enumerate(targets)]
    asked = wanted >= 0
    return Rehearsals(targets, (np.array(given, dtype=np.int64).reshape(shape) == wanted) & asked, asked)


def choose_marks(
    found: Rehearsals,
    mark: IntArray,
    plausible: Sequence[Sequence[int]],
    *,
    marks: int,
    candidates: int,
    triggers: int,
) -> Cast:
    """Choose the marks, targets and triggers that reached the copies most often.

    The true key has no part in it: it will draw one of the chosen candidates of each mark
    afterwards, so that the randomisation test over those draws stays exact.

    Parameters
    ----------
    found
        Rehearsals; with none, nothing is preferred and the first candidates are taken.
    mark
        Mark of each trigger, int64 ``[triggers]``.
    plausible
        Candidate targets of each mark, the most plausible first.
    marks, candidates, triggers
        How many marks, candidates of each mark, and triggers in all to keep. Fewer
        triggers are kept where the marks do not have so many.

    Raises
    ------
    InvalidInput
        If there are fewer marks with so many candidates and at least one trigger.

    Examples
    --------
    >>> mark, plausible = np.array([0, 0, 1, 1]), [[3, 4], [5, 6]]
    >>> matched = np.array([[0, 1, 0, 0], [1, 1, 0, 1]], dtype=bool)
    >>> found = Rehearsals(np.array([[3, 5], [4, 6]]), matched, np.ones_like(matched))
    >>> choose_marks(found, mark, plausible, marks=1, candidates=2, triggers=1)
    Cast(marks=(0,), choices=((3, 4),), triggers=((1,),), transfer=0.75)
    """
    able = [j for j, classes in enumerate(plausible) if len(classes) >= candidates and (mark == j).any()]
    if len(able) < marks:
        msg = (
            f"only {len(able)} marks have {candidates} plausible targets and a trigger, {marks} are wanted; "
            "ask for fewer marks or candidates, or give more data"
        )
        raise InvalidInput(msg)
    # As many triggers a mark as wanted, or as the best supplied marks have.
    stock = sorted((int((mark == j).sum()) for j in able), reverse=True)
    each = max(1, min(triggers // marks, stock[marks - 1]))
    scored = []
    for j in able:
        here = np.flatnonzero(mark == j)
        if len(here) < each:
            continue
        rates = {c: _rates(found, j, here, c) for c in plausible[j]}
        best = sorted(plausible[j], key=lambda c: -float(rates[c].mean()))[:candidates]
        # The worse target counts: an answer that models give anyway proves nothing if the key draws it.
        score = np.min([rates[c] for c in best], axis=0)
        # The mean over the mark decides between equals: it rests on more answers.
        order = np.lexsort((np.arange(len(here)), -score))[:each]
        scored.append(
            (float(score[order].mean()) + 1e-3 * float(score.mean()), j, best, here[order], score[order])
        )
    scored.sort(key=lambda entry: (-entry[0], entry[1]))
    kept = scored[:marks]
    return Cast(
        marks=tuple(j for _, j, _, _, _ in kept),
        choices=tuple(tuple(int(c) for c in sorted(best)) for _, _, best, _, _ in kept),
        triggers=tuple(tuple(int(t) for t in chosen) for _, _, _, chosen, _ in kept),
        transfer=float(np.mean([score.mean() for *_, score in kept])),
    )


def _rates(found: Rehearsals, mark: int, triggers: IntArray, target: int) -> NDArray[np.float64]:
    """Return how often each trigger of a mark reached a copy with this target."""
    turns = found.targets[:, mark] == target if len(found.targets) else np.zeros(0, dtype=bool)
    if not turns.any():  # nothing is known of this target: neither good nor bad
        return np.full(len(triggers), found.transfer)
    matched = found.matched[turns][:, triggers]
    # Half of a trigger's score is its mark's: one or two answers are little to go by.
    rates: NDArray[np.float64] = 0.5 * matched.mean(0) + 0.5 * matched.mean()
    return rates
