import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay.errors import AccessDenied, BudgetExceeded, EvidenceTampered, InvalidInput
from assay.ledger import Ledger, Recorded
from assay.model import Access
from assay.observers import Recorder

EVERYTHING = Access.WEIGHTS | Access.EMBEDDINGS


class Victim:
    """Linear two-class model that counts what reaches it."""

    def __init__(self, access=EVERYTHING):
        self.name, self.access, self.input_shape = "victim", access, (3,)
        self.num_classes, self.digest, self.asked = 2, "d" * 64, 0
        self.module = nn.Linear(3, 2)
        with torch.no_grad():
            self.module.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
            self.module.bias.zero_()

    def _logits(self, x):
        self.asked += len(x)
        return self.module(x).detach()

    def labels(self, x):
        return self._logits(x).argmax(1)

    def scores(self, x):
        return self._logits(x).softmax(1)

    def embeddings(self, x):
        return self._logits(x)


def _rows(n, seed=0):
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))


@given(
    st.lists(st.tuples(st.sampled_from(["labels", "scores", "embeddings"]), st.integers(0, 9)), max_size=6)
)
@settings(max_examples=30, deadline=None)
def test_every_row_counts_once_and_answers_are_the_models(calls):
    victim, twin = Victim(), Victim()
    meter = Ledger(victim, EVERYTHING)
    for kind, n in calls:
        assert torch.equal(getattr(meter, kind)(_rows(n)), getattr(twin, kind)(_rows(n)))
    assert meter.queries == victim.asked == sum(n for _, n in calls)
    assert meter.cost.calls == meter.cost.round_trips == len(calls)


def test_budget_is_enforced_before_anything_is_sent(tmp_path):
    for journal in (None, tmp_path / "j"):
        victim = Victim()
        meter = Ledger(victim, Access.LABELS, budget=10, journal=journal, chunk=4)
        meter.labels(_rows(8))
        with pytest.raises(BudgetExceeded, match="3 more queries of victim would make 11"):
            meter.labels(_rows(3))
        assert (victim.asked, meter.queries, meter.remaining) == (8, 8, 2)
        meter.labels(_rows(2))
        assert meter.remaining == 0
    assert Ledger(Victim(), Access.LABELS).remaining is None
    with pytest.raises(InvalidInput, match="at least 0"):
        Ledger(Victim(), Access.LABELS, budget=-1)
    with pytest.raises(InvalidInput, match="chunk"):
        Ledger(Victim(), Access.LABELS, chunk=0)


def test_only_what_was_granted_is_there():
    victim = Victim()
    meter = Ledger(victim, Access.LABELS)
    for forbidden in (meter.scores, meter.embeddings):
        with pytest.raises(AccessDenied, match="were not granted, only labels"):
            forbidden(_rows(2))
    for forbidden in (lambda: meter.module, meter.copy_module):
        with pytest.raises(AccessDenied, match="weights"):
            forbidden()
    with pytest.raises(AccessDenied):
        Ledger(victim, Access.NONE).labels(_rows(1))
    assert victim.asked == meter.queries == 0
    with pytest.raises(AccessDenied, match="offers only labels"):
        Ledger(Victim(Access.LABELS), Access.SCORES)


def test_the_module_is_metered_and_a_copy_is_not():
    victim = Victim()
    meter = Ledger(victim, Access.WEIGHTS, budget=5)
    x = _rows(4).requires_grad_()
    meter.module(x).sum().backward()
    assert x.grad is not None
    assert meter.queries == 4
    with pytest.raises(BudgetExceeded):
        meter.module(_rows(2))
    copy = meter.copy_module()
    copy(_rows(100))
    with torch.no_grad():
        copy.weight.zero_()
    assert meter.queries == 4
    assert victim.module.weight.abs().sum() > 0


def test_cost_adds_up(tmp_path):
    log = Recorder()
    meter = Ledger(Victim(), Access.SCORES, price=0.25, observers=[log], journal=tmp_path / "j")
    meter.scores(_rows(4))
    meter.scores(_rows(2, seed=1))
    cost = meter.cost
    assert (cost.queries, cost.calls, cost.round_trips, cost.replayed) == (6, 2, 2, 0)
    assert cost.bytes_sent == 6 * 3 * 4
    assert cost.bytes_received == 6 * 2 * 4
    assert cost.dollars == 1.5
    assert cost.seconds > 0
    assert log.events == [("query", "victim", 4, 4), ("query", "victim", 2, 6)]


@pytest.mark.parametrize("kind", ["labels", "scores", "embeddings"])
def test_a_repeated_run_asks_nothing_twice(tmp_path, kind):
    def walk(victim, n):
        with Ledger(victim, EVERYTHING, journal=tmp_path / "j", chunk=4) as meter:
            answers = [getattr(meter, kind)(_rows(n, seed)) for seed in range(2)]
            return torch.cat(answers), meter.cost

    first_victim, again_victim = Victim(), Victim()
    with Ledger(first_victim, EVERYTHING, journal=tmp_path / "j", chunk=4) as meter:
        getattr(meter, kind)(_rows(10)[:5])  # a run that was killed after five rows
    answers, cost = walk(first_victim, 10)
    assert first_victim.asked == 20
    assert (cost.queries, cost.replayed) == (20, 5)
    repeated, cost = walk(again_victim, 10)
    assert again_victim.asked == 0
    assert (cost.queries, cost.replayed, cost.round_trips, cost.bytes_sent) == (20, 20, 0, 0)
    assert repeated.dtype == answers.dtype
    assert torch.equal(repeated, answers)
    assert torch.equal(answers, torch.cat([getattr(Victim(), kind)(_rows(10, s)) for s in range(2)]))


def test_replayed_rows_count_against_the_budget(tmp_path):
    for _ in range(2):
        with Ledger(Victim(), Access.LABELS, journal=tmp_path / "j", budget=6) as meter:
            meter.labels(_rows(5))
            with pytest.raises(BudgetExceeded):
                meter.labels(_rows(2))


def test_answers_of_an_unsteady_model_are_replayed_in_order(tmp_path):
    class Unsteady(Victim):
        def labels(self, x):
            self.asked += len(x)
            return torch.full((len(x),), self.asked % 2)

    x = _rows(1).repeat(3, 1)
    with Ledger(Unsteady(), Access.LABELS, journal=tmp_path / "j", chunk=1) as meter:
        first = meter.labels(x)
    assert first.tolist() == [1, 0, 1]
    with Ledger(Unsteady(), Access.LABELS, journal=tmp_path / "j") as meter:
        assert torch.equal(meter.labels(x), first)


@pytest.mark.parametrize(
    "answer",
    [
        torch.tensor([0, 5]),
        torch.tensor([0]),
        torch.tensor([0.0, 1.0]),
        None,
    ],
)
def test_a_bad_answer_is_refused_and_never_journaled(tmp_path, answer):
    victim = Victim()
    victim.labels = lambda _x: answer
    for _ in range(2):  # a poisoned journal would make the second run fail for ever
        with (
            Ledger(victim, Access.LABELS, journal=tmp_path / "j") as meter,
            pytest.raises(InvalidInput, match="victim answered"),
        ):
            meter.labels(_rows(2))
    with Ledger(Victim(), Access.LABELS, journal=tmp_path / "j") as meter:
        assert torch.equal(meter.labels(_rows(2)), Victim().labels(_rows(2)))


def test_small_integers_and_half_precision_can_be_journaled(tmp_path):
    victim = Victim()
    victim.labels = lambda x: torch.zeros(len(x), dtype=torch.uint8)
    victim.scores = lambda x: torch.full((len(x), 2), 0.5, dtype=torch.bfloat16)
    for _ in range(2):
        with Ledger(victim, Access.SCORES, journal=tmp_path / "j") as meter:
            assert meter.labels(_rows(2)).dtype == torch.int64
            assert meter.scores(_rows(2)).tolist() == [[0.5, 0.5]] * 2


@pytest.mark.parametrize("bad", [torch.zeros(2, 4), torch.zeros(2, 3).long(), torch.full((2, 3), torch.nan)])
def test_bad_inputs_cost_nothing(bad):
    victim = Victim()
    meter = Ledger(victim, Access.LABELS)
    with pytest.raises(InvalidInput):
        meter.labels(bad)
    assert victim.asked == meter.queries == 0


def test_a_model_that_is_gone_answers_from_its_journal_only(tmp_path):
    with Ledger(Victim(), Access.SCORES, journal=tmp_path / "j") as meter:
        answers = meter.scores(_rows(6))
    gone = Recorded(tmp_path / "j")
    assert (gone.name, gone.digest, gone.input_shape, gone.num_classes) == ("victim", "d" * 64, (3,), 2)
    with Ledger(gone, Access.SCORES, journal=tmp_path / "j") as meter:
        assert torch.equal(meter.scores(_rows(6)), answers)
    with Ledger(gone, Access.SCORES, journal=tmp_path / "j") as meter:
        with pytest.raises(EvidenceTampered, match="not in its journal"):
            meter.scores(_rows(2, seed=9))
        with pytest.raises(EvidenceTampered):
            meter.labels(_rows(6))  # scores were recorded, not labels
    with pytest.raises(AccessDenied):
        _ = gone.module
    with pytest.raises(InvalidInput, match="no journal"):
        Recorded(tmp_path / "none")


def test_a_journal_of_another_kind_is_no_recorded_model(tmp_path):
    from assay.journal import Journal

    with Journal(tmp_path / "j", {"something": "else"}) as book:
        book.record([b"0" * 16], np.zeros(1))
    with pytest.raises(EvidenceTampered, match="malformed"):
        Recorded(tmp_path / "j")
