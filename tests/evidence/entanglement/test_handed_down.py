"""Which of several marks is kept: the one whose copies are farthest from clean models."""

from types import SimpleNamespace

import pytest
import torch

from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement import handed_down
from assay.evidence.watermarks.entanglement.handed_down import Theft, hand_down
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

    def mark(self, pool, targets, how, turn):
        return turn, ()

    def steal(self, model, turn, task):
        return Says(self.copies[model].pop(0))


def kept(monkeypatch, stage, targets, nulls, **theft):
    monkeypatch.setattr(handed_down, "_choose", lambda *_: CHOSEN)
    marks = [(SimpleNamespace(names=(f"mark {turn}",)), target) for turn, target in enumerate(targets)]
    return hand_down(stage, marks, [Says(share) for share in nulls], Entangling(), Theft(**theft), 20)


def test_a_mark_that_clean_models_have_is_not_enough(monkeypatch):
    # The first of three clean models is the jury, and says class 1 to 90 %.
    found = kept(monkeypatch, Stage([1.0, 1.0], [0.0, 0.05]), [1, 0], [0.9, 0.0, 0.0])
    assert found.target == 0
    assert [(a.transfer, a.clean) for a in found.attempts] == [
        (1.0, pytest.approx(0.9)),
        (pytest.approx(0.95), pytest.approx(0.1)),
    ]


def test_the_lesser_copy_counts_and_enough_is_enough(monkeypatch):
    found = kept(monkeypatch, Stage([1.0, 0.5], [0.95, 1.0], []), [1, 1, 1], [0.0, 0.0, 0.0])
    assert [a.transfer for a in found.attempts] == [0.5, pytest.approx(0.95)]
    assert found.pool.names == ("mark 1",)


def test_few_clean_models_all_choose(monkeypatch):
    found = kept(monkeypatch, Stage([1.0, 1.0]), [1], [0.9, 0.9])
    assert found.attempts[0].clean == 0.0


def test_no_mark_at_all(monkeypatch):
    stage = Stage()
    monkeypatch.setattr(handed_down, "_choose", lambda *_: CHOSEN[:0])
    with pytest.raises(InvalidInput, match="no mark has 7 triggers"):
        hand_down(
            stage, [(SimpleNamespace(names=("m",)), 1)], [Says(0.0)] * 3, Entangling(), Theft(attempts=1), 20
        )
