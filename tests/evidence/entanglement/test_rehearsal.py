"""Rehearsals: fair draws, honest choices, and a level that choosing does not touch."""

import numpy as np
import pytest

from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.rehearsal import (
    Rehearsals,
    choose_marks,
    draw_rehearsals,
    rehearse,
)
from assay.evidence.watermarks.entanglement.selection import panel_bound, select_triggers
from assay.evidence.watermarks.keys import randomisation_p_value
from assay.statistics import clopper_pearson, uniformity


def test_candidates_take_turns():
    drawn = draw_rehearsals([[2, 5], [1, 3, 4], [7]], 7, np.random.default_rng(0))
    assert drawn.shape == (7, 3)
    assert sorted(np.bincount(drawn[:, 0])[[2, 5]].tolist()) == [3, 4]
    assert sorted(np.bincount(drawn[:, 1])[[1, 3, 4]].tolist()) == [2, 2, 3]
    assert (drawn[:, 2] == 7).all()
    assert draw_rehearsals([[1, 2]], 0, np.random.default_rng(0)).size == 0


def test_marks_take_turns_in_casts_of_the_final_size():
    drawn = draw_rehearsals([[1, 2]] * 7 + [[]], 14, np.random.default_rng(1), most=3)
    assert ((drawn >= 0).sum(1) == 3).all()
    often = (drawn >= 0).sum(0)
    assert often[:7].tolist() == [6] * 7
    assert often[7] == 0
    assert all(np.bincount(drawn[:, j][drawn[:, j] >= 0])[1:].tolist() == [3, 3] for j in range(7))
    found = rehearse(drawn, np.arange(8), lambda _turn, row: np.where(row < 0, -1, 1))
    assert found.transfer == 0.5  # marks that took no part neither match nor miss


def _world(rng, marks=12, each=8, rehearsals=12):
    """Some marks and targets reach copies, others never do."""
    plausible = [tuple(rng.permutation(6)[:4].tolist()) for _ in range(marks)]
    mark = np.repeat(np.arange(marks), each)
    good = {(j, c): rng.random() < 0.5 for j in range(marks) for c in plausible[j]}
    targets = draw_rehearsals(plausible, rehearsals, rng)

    def answers(_turn, row):
        wanted = row[mark]
        reached = np.array([good[j, c] for j, c in zip(mark, wanted, strict=True)])
        return np.where(reached, wanted, 9)

    return plausible, mark, good, rehearse(targets, mark, answers)


def test_marks_and_targets_that_reach_copies_are_chosen():
    for seed in range(5):
        plausible, mark, good, found = _world(np.random.default_rng(seed))
        cast = choose_marks(found, mark, plausible, marks=4, candidates=2, triggers=16)
        assert len(set(cast.marks)) == 4
        for j, classes, triggers in zip(cast.marks, cast.choices, cast.triggers, strict=True):
            assert all(good[j, c] for c in classes)
            assert set(classes) <= set(plausible[j])
            assert len(triggers) == 4
            assert (mark[list(triggers)] == j).all()
        assert cast.transfer == 1.0
        assert 0.3 < found.transfer < 0.7


def test_triggers_that_work_are_preferred():
    mark, plausible = np.zeros(6, dtype=int), [(0, 1)]
    matched = np.array([[0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0]], dtype=bool)
    cast = choose_marks(
        Rehearsals(np.array([[0], [1]]), matched, np.ones_like(matched)),
        mark,
        plausible,
        marks=1,
        candidates=2,
        triggers=2,
    )
    assert cast.triggers == ((1, 4),)


def test_without_rehearsals_the_most_plausible_are_taken():
    found = rehearse(np.zeros((0, 2), dtype=int), np.array([0, 0, 1]), lambda *_: None)
    cast = choose_marks(found, np.array([0, 0, 1]), [(4, 2, 7), (1, 3)], marks=2, candidates=2, triggers=4)
    assert cast.choices == ((2, 4), (1, 3))
    assert cast.triggers == ((0,), (2,))  # as many of each mark


def test_too_few_marks():
    found = rehearse(np.zeros((0, 2), dtype=int), np.array([0, 1]), lambda *_: None)
    with pytest.raises(InvalidInput, match="only 1 marks have 2 plausible"):
        choose_marks(found, np.array([0, 1]), [(4, 2), (1,)], marks=2, candidates=2, triggers=4)


def test_choosing_does_not_touch_the_level():
    """The whole pipeline against a suspect that resembles the rehearsed copies as closely as can be."""
    p_values = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        plausible, mark, good, found = _world(rng, marks=10, each=3, rehearsals=6)
        cast = choose_marks(found, mark, plausible, marks=6, candidates=2, triggers=12)
        # Answers a favourite to every mark, the one that rehearsals liked best.
        favourite = [
            classes[0] if good[j, classes[0]] else classes[-1]
            for j, classes in zip(cast.marks, cast.choices, strict=True)
        ]
        answers = np.zeros((6, 10), dtype=np.int64)
        answers[np.arange(6), favourite] = 2
        targets = np.array([classes[rng.integers(2)] for classes in cast.choices])
        p_values.append(randomisation_p_value(answers, targets, cast.choices))
    assert uniformity(p_values).p_value > 0.001
    assert np.mean(np.array(p_values) <= 0.05) < 0.08


def test_selection_keeps_what_thieves_have_and_clean_models_have_not():
    targets = np.array([1, 2, 3, 4])
    thieves = [np.array([1, 2, 3, 0]), np.array([1, 2, 3, 4])]
    nulls = [np.array([0, 2, 0, 0]), np.array([0, 0, 0, 0])]
    assert select_triggers(targets, thieves, nulls).tolist() == [True, False, True, False]
    assert select_triggers(targets, thieves, []).tolist() == [True, True, True, False]
    with pytest.raises(InvalidInput, match="thief"):
        select_triggers(targets, [], nulls)


def test_the_bound_is_that_of_the_worst_model():
    answers = np.zeros((19, 50), dtype=np.int64)
    answers[7, :6] = 1
    bound = panel_bound(answers, np.ones(50, dtype=np.int64))
    assert bound == pytest.approx(clopper_pearson(6, 50, confidence=0.9).high)
    with pytest.raises(InvalidInput, match="19"):
        panel_bound(answers[:18], np.ones(50, dtype=np.int64))
