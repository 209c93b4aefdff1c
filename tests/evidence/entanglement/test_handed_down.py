"""Which of several marks is kept: the one whose copies are farthest from clean models."""

from types import SimpleNamespace

import pytest
import torch

from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement import handed_down, selected
from assay.evidence.watermarks.entanglement.handed_down import Theft, found_by_few, hand_down
from assay.evidence.watermarks.entanglement.marked_batches import Entangling

CHOSEN = torch.zeros(20, 1)


class Says:
    """Class 1 to a share of the rows that it is asked about, class 0 to the others."""

    def __init__(self, share):
        self.share = share

    def labels(self, x):
        return (torch.arange(len(x)) < round(self.share * len(x))).long()


class Stage:
    """Copies of the model of each turn say class 1 as often as the turn says, one after the other."""

    def __init__(self, *copies):
        self.copies = [list(shares) for shares in copies]
        self.turns = []

    def mark(self, pool, targets, how, turn):
        return turn, ()

    def part(self, turn):
        return torch.arange(3)

    def steal(self, model, turn, task, rows=None):
        self.turns.append(turn)
        return Says(1.0 if rows is not None else self.copies[model].pop(0))


def mark(name):
    return SimpleNamespace(names=(name,), trained=torch.zeros(5, 1), again=5)


def kept(monkeypatch, stage, targets, nulls, **theft):
    chosen_by = []
    monkeypatch.setattr(handed_down, "_choose", lambda *given: chosen_by.append(given[4][:]) or CHOSEN)
    marks = [(mark(f"mark {turn}"), target) for turn, target in enumerate(targets)]
    how = Theft(**({"doublings": 0} | theft))
    found = hand_down(stage, marks, [Says(share) for share in nulls], Entangling(), how, 20)
    return found, chosen_by


def test_a_mark_that_clean_models_have_is_not_enough(monkeypatch):
    # The first of three clean models is the jury, and says class 1 to 90 %.
    found, _ = kept(monkeypatch, Stage([1.0, 1.0], [0.0, 0.05]), [1, 0], [0.9, 0.0, 0.0])
    assert found.target == 0
    assert [(a.transfer, a.clean) for a in found.attempts] == [
        (1.0, pytest.approx(0.9)),
        (pytest.approx(0.95), pytest.approx(0.1)),
    ]


def test_the_lesser_copy_counts_and_enough_is_enough(monkeypatch):
    found, _ = kept(monkeypatch, Stage([1.0, 0.25], [0.95, 1.0], []), [1, 1, 1], [0.0, 0.0, 0.0])
    assert [a.transfer for a in found.attempts] == [0.25, pytest.approx(0.95)]
    assert found.pool.names == ("mark 1",)


def test_more_thieves_come_before_another_mark(monkeypatch):
    stage = Stage([1.0, 0.25, 0.95, 1.0], [])
    found, chosen_by = kept(monkeypatch, stage, [1, 1], [0.0] * 3, thieves=4, doublings=1)
    assert [(a.mark, a.thieves, a.rows, a.transfer) for a in found.attempts] == [
        (1, 4, 10, 0.25),
        (1, 8, 10, pytest.approx(0.95)),
    ]
    # Those that were tried on the first choice take part in the second, and fresh ones are tried on it.
    assert [thief.share for thief in chosen_by[1]] == [1.0] * 4 + [1.0, 0.25] + [1.0] * 2
    assert found.pool.names == ("mark 0",)


def test_the_better_choice_is_kept_where_more_thieves_do_worse(monkeypatch):
    stage = Stage([0.3, 0.3, 0.25, 0.25], [0.1] * 4)
    found, _ = kept(monkeypatch, stage, [1, 1], [0.0] * 3, thieves=2, doublings=1)
    assert [a.mark for a in found.attempts] == [1, 1, 2, 2]
    assert found.pool.names == ("mark 0",)


def test_no_copy_is_made_twice(monkeypatch):
    stage = Stage(*([0.25] * 6 for _ in range(5)))
    kept(monkeypatch, stage, [1] * 5, [0.0] * 3, attempts=5, doublings=2)
    assert len(set(stage.turns)) == len(stage.turns) == 5 * (6 + 2 + 4 + 2 + 10 + 2)
    assert max(stage.turns) < selected._LAST


def test_more_thieves_do_not_help_against_clean_models_or_without_triggers(monkeypatch):
    found, chosen_by = kept(monkeypatch, Stage([1.0, 1.0], [1.0, 1.0]), [1, 1], [0.9] * 3, doublings=2)
    assert [a.mark for a in found.attempts] == [1, 2]
    assert len(chosen_by) == 2


def test_what_counts_is_whether_few_answers_decide(monkeypatch):
    # A copy that answers half of what no clean model does is found; nine tenths of what most answer is not.
    found, _ = kept(monkeypatch, Stage([0.5, 0.6], []), [1, 1], [0.0] * 3)
    assert len(found.attempts) == 1
    found, _ = kept(monkeypatch, Stage([0.9, 0.9], [0.9, 0.9]), [1, 1], [0.8] * 3)
    assert len(found.attempts) == 2
    assert found_by_few(0.5, 0.0, 20) > 0.95
    assert found_by_few(0.9, 0.8, 20) < 0.5
    assert found_by_few(1.0, 1.0, 60) == 0.0  # against a bound of one nothing is ever found


def test_what_is_enough_is_kept_whatever_came_before(monkeypatch):
    # All but the first of the clean models choose; it judges, and says more of the second choice.
    shares = iter([0.0, 0.5])
    jury = SimpleNamespace(labels=lambda x: Says(next(shares)).labels(x))
    picked = iter([CHOSEN, CHOSEN + 1])
    stage = Stage([0.6, 0.6, 1.0, 1.0])
    monkeypatch.setattr(handed_down, "_choose", lambda *_: next(picked))
    monkeypatch.setattr(handed_down, "found_by_few", lambda transfer, *_: float(transfer == 1.0))
    found = hand_down(
        stage, [(mark("m"), 1)], [jury, Says(0.0), Says(0.0)], Entangling(), Theft(doublings=1), 20
    )
    assert [round(a.transfer - a.clean, 2) for a in found.attempts] == [0.6, 0.5]
    assert found.triggers.eq(1).all()


def test_few_clean_models_all_choose(monkeypatch):
    found, _ = kept(monkeypatch, Stage([1.0, 1.0]), [1], [0.9, 0.9])
    assert found.attempts[0].clean == 0.0


def test_no_mark_at_all(monkeypatch):
    stage = Stage()
    monkeypatch.setattr(handed_down, "_choose", lambda *_: CHOSEN[:0])
    with pytest.raises(InvalidInput, match="no mark has 7 triggers"):
        hand_down(stage, [(mark("m"), 1)], [Says(0.0)] * 3, Entangling(), Theft(attempts=1), 20)
