import json
import subprocess
import sys

import pytest
from scipy.stats import binomtest

from assay.adapters import open_model
from assay.errors import AccessDenied, BudgetExceeded, InvalidInput
from assay.extraction import DataTheft, Distillation, ExtractionRecord, FineTuning, LabelQuery, LogitQuery
from assay.ledger import Ledger
from assay.model import Access
from assay.observers import Recorder

FAST = {"architecture": "mlp-16", "epochs": 2}


@pytest.mark.parametrize("kind", [LabelQuery, LogitQuery, Distillation])
def test_a_pool_is_cut_to_the_budget(kind, victim, pool):
    theft = kind(**FAST).run(victim, pool, budget=70)
    assert theft.record.cost.queries == victim.rows == 70
    whole = kind(**FAST).run(victim, pool.subset(range(70)))
    assert whole.surrogate.digest == theft.surrogate.digest


def test_an_uncut_pool_is_refused_before_anything_is_sent(victim, pool):
    with pytest.raises(BudgetExceeded, match="nothing was sent"):
        LabelQuery(**FAST).steal(Ledger(victim, Access.LABELS, budget=599), pool, rng=0)
    assert victim.rows == 0


@pytest.mark.parametrize("kind", [DataTheft, FineTuning])
def test_attacks_that_ask_nothing_need_no_budget(kind, victim, pool):
    free, limited = (kind(epochs=1).run(victim, pool, budget=b) for b in (None, 0))
    assert victim.rows == 0
    assert free.surrogate.digest == limited.surrogate.digest  # the pool was not cut


def test_an_empty_budget_or_pool_is_refused(victim, pool):
    for options in ({"budget": 0}, {"budget": -1}):
        with pytest.raises(InvalidInput):
            LabelQuery(**FAST).run(victim, pool, **options)
    with pytest.raises(InvalidInput, match="no inputs"):
        LabelQuery(**FAST).run(victim, pool.subset([]))
    assert victim.rows == 0


def test_a_curve_costs_nothing_beyond_the_largest_attack(victim, pool, held_out):
    attack = LogitQuery(epochs=6)
    theft = attack.run(victim, pool, evaluation=held_out, curve=(40, 150, 40, 600, 10_000), rng=2)
    assert victim.rows == 600 + len(held_out)
    assert [point.queries for point in theft.record.curve] == [40, 150, 600]
    assert theft.record.cost.queries == 600
    fidelity = [point.fidelity for point in theft.record.curve]
    assert fidelity[0] < fidelity[1] < fidelity[2]
    assert fidelity[2] == theft.record.fidelity.value
    # A point is what an attack with that budget reaches, not an approximation of it.
    alone = attack.run(victim, pool, evaluation=held_out, budget=150, rng=2)
    assert alone.record.fidelity.value == fidelity[1]
    assert alone.record.accuracy.value == theft.record.curve[1].accuracy


def test_a_curve_needs_something_to_measure_with(victim, pool, held_out):
    with pytest.raises(InvalidInput, match="evaluation"):
        LabelQuery(**FAST).run(victim, pool, curve=(5,))
    with pytest.raises(InvalidInput, match="at least 1"):
        LabelQuery(**FAST).run(victim, pool, curve=(0, 5), evaluation=held_out)
    assert victim.rows == 0


def test_a_journal_answers_the_second_run(victim, pool, tmp_path):
    first = LabelQuery(**FAST).run(victim, pool, journal=tmp_path / "j")
    again = LabelQuery(**FAST).run(victim, pool, journal=tmp_path / "j")
    assert victim.rows == 600
    assert (again.record.cost.replayed, again.record.cost.queries) == (600, 600)
    assert first.surrogate.digest == again.surrogate.digest


def test_intervals_are_wilsons(victim, pool, held_out):
    record = LabelQuery(**FAST).run(victim, pool, evaluation=held_out).record
    for interval in (record.fidelity, record.accuracy, record.victim_accuracy):
        hits = round(interval.value * len(held_out))
        expected = binomtest(hits, len(held_out)).proportion_ci(0.95, method="wilson")
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    copy_right = (record.accuracy.value, record.victim_accuracy.value)
    assert copy_right[0] < copy_right[1]


def test_without_evaluation_nothing_is_claimed(victim, pool):
    record = LabelQuery(**FAST).run(victim, pool).record
    assert (record.fidelity, record.accuracy, record.victim_accuracy, record.curve) == (None, None, None, ())


def test_records_and_copies_are_saved_and_open_again(victim, pool, held_out, tmp_path):
    theft = LabelQuery(**FAST).run(victim, pool, evaluation=held_out, curve=(50,), price=0.01)
    folder = theft.save(tmp_path / "theft")
    record = ExtractionRecord.load(folder / "extraction.json")
    assert record == theft.record
    assert record.cost.dollars == pytest.approx(6.0)
    copy = open_model(folder / "surrogate.safetensors")
    assert copy.digest == record.surrogate
    assert (copy.labels(held_out.x) == theft.surrogate.labels(held_out.x)).all()
    assert json.loads((folder / "extraction.json").read_text())["parameters"]["epochs"] == 2


def test_too_little_access_and_wrong_inputs_are_refused(victim, pool, held_out):
    victim.access = Access.LABELS
    with pytest.raises(AccessDenied, match="the attack logit-query needs scores of spy"):
        LogitQuery(**FAST).run(victim, pool)
    flat = type(pool)(pool.x.flatten(1), pool.y, pool.classes, name="flat digits")
    with pytest.raises(InvalidInput, match=r"flat digits has inputs of shape \(64,\)"):
        LabelQuery(**FAST).run(victim, flat)
    with pytest.raises(InvalidInput, match="flat digits"):
        LabelQuery(**FAST).run(victim, pool, evaluation=flat)
    assert victim.rows == 0


def test_observers_hear_of_queries_and_training(victim, pool):
    log = Recorder()
    LabelQuery(**FAST).run(victim, pool, observers=[log])
    assert ("query", "spy", 600, 600) in log.events
    assert [e[0] for e in log.events if e[1] == "label-query"] == ["start", "step", "step", "end"]


def test_importing_the_room_costs_no_torch():
    code = "import sys, assay.extraction as e; assert 'torch' not in sys.modules; print(dir(e)); e.LabelQuery"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "SourceCopy" in done.stdout
