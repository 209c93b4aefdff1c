"""DAWN as evidence: what a gateway showed is found in copies, exactly, and nothing else is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from assay.adapters import TorchModel
from assay.data.dataset import Dataset
from assay.data.embedded import breast_cancer, digits
from assay.errors import BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence import Evidence, load_evidence
from assay.evidence.watermarks.dawn import DawnMarks
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.registry import create
from assay.statistics import uniformity
from assay.testing.evidence import check_evidence

torch.set_num_threads(1)
FAST = Recipe(epochs=20, optimizer="adam", lr=5e-3, weight_decay=0.0)
LONG = Recipe(epochs=80, optimizer="adam", lr=5e-3, weight_decay=0.0)  # until it remembers its rows
KEY = "5a" * 32
MARKS = DawnMarks(rate=0.05, key=KEY)


@cache
def parts(two=False):
    data = breast_cancer() if two else digits()
    order = np.random.default_rng(0).permutation(len(data))
    third = len(data) // 3
    return [data.subset(order[i * third : (i + 1) * third]) for i in range(3)]


def fit(rows, targets=None, seed=0, name="mlp-64", recipe=FAST):
    network = build(name, rows.input_shape, rows.num_classes, seed)
    train(network, rows, recipe, targets=targets, rng=seed)
    return TorchModel(network)


@cache
def victim(two=False):
    return fit(parts(two)[0])


@cache
def copied(two=False, rate=0.05, seed=1):
    asked = parts(two)[1]
    served = DawnMarks(rate=rate, key=KEY).defence.wear(victim(two))
    return fit(asked, served.labels(asked.x), seed, "mlp-128", LONG)


@cache
def independent(seed):
    return fit(parts()[2], seed=seed)


def evidence(marks=MARKS, two=False):
    return marks.register(victim(two), parts(two)[1], parts(two)[2])


def test_conformance():
    check_evidence(MARKS, evidence(), [independent(7), victim()], copied(), pairs=60)


def test_copy_by_label_queries_is_found_and_who_trained_alone_is_not():
    verdict = evidence().verify(copied())
    assert verdict.stolen
    assert verdict.p_value < 1e-3
    assert verdict.details["queries_saved"] > 0  # eight answers were enough
    assert verdict.companions[0].p_value > 0.01  # it does not know marks that it was never shown
    whole = evidence(DawnMarks(rate=0.05, key=KEY, stop_early=False)).verify(copied())
    assert whole.p_value < verdict.p_value
    for model in (independent(7), independent(8), victim()):
        assert not evidence().verify(model).stolen


def test_forwarding_to_the_service_shows():
    suspect = MARKS.defence.wear(victim())
    verdict = evidence().verify(suspect)
    assert verdict.stolen
    assert verdict.companions[0].test == "never-shown"
    assert verdict.companions[0].p_value < 1e-6


def test_wrong_key_finds_nothing():
    other = DawnMarks(rate=0.05, key="00" * 32).register(victim(), parts()[1])
    assert not other.verify(copied()).stolen
    found = [d.verify(copied()) for d in evidence().decoys(40, rng=3)]
    assert sum(v.stolen for v in found) <= 2


def test_level_is_that_of_the_exact_count():
    made = evidence(DawnMarks(rate=0.05, key=KEY, stop_early=False))
    p_values = [d.verify(m).p_value for m in (independent(7), victim()) for d in made.decoys(80, rng=1)]
    assert uniformity(p_values).p_value > 0.001
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 2 * (0.05 * 0.95 / 160) ** 0.5


def test_exact_value_equals_the_binomial_tail_among_disagreements():
    from scipy.stats import binom

    made = evidence(DawnMarks(rate=0.05, key=KEY, stop_early=False))
    verdict = made.verify(independent(7), alpha=0.5)
    free = verdict.details["asked"] - verdict.details["answered_as_unmarked"]
    assert verdict.p_value == pytest.approx(binom.sf(verdict.details["hits"] - 1, free, 1 / 9), rel=1e-9)


def test_two_classes_compare_marked_with_unmarked():
    marks = DawnMarks(rate=0.1, key=KEY)
    made = evidence(marks, two=True)
    verdict = made.verify(copied(two=True, rate=0.1))
    assert verdict.test == "marked-rows-randomisation"
    assert verdict.stolen
    assert not made.verify(victim(two=True)).stolen
    p_values = [d.verify(victim(two=True), alpha=0.1).p_value for d in made.decoys(100, rng=2)]
    assert uniformity(p_values).p_value > 0.001
    with pytest.raises(BudgetExceeded):
        made.verify(victim(two=True), budget=5)


def test_journal_of_a_served_model(tmp_path):
    asked = parts()[1]
    with Ledger(MARKS.defence.wear(victim()), Access.LABELS, journal=tmp_path / "j.jsonl") as service:
        service.labels(asked.x)
    pool = asked.concat(parts()[2])
    made = MARKS.register_journal(victim(), tmp_path / "j.jsonl", pool)
    assert made.facts["answered"] == len(asked)
    assert torch.equal(made.tensors["inputs"], evidence().tensors["inputs"])
    assert made.verify(copied()).stolen
    with pytest.raises(InvalidInput, match="under this key"):
        DawnMarks(rate=0.05, key="11" * 32).register_journal(victim(), tmp_path / "j.jsonl", pool)
    with pytest.raises(InvalidInput, match="no row"):
        MARKS.register_journal(victim(), tmp_path / "j.jsonl", parts()[2])


def test_inputs_that_the_key_does_not_mark_are_refused(tmp_path):
    made = evidence()
    # An owner who has seen the suspect would like to pick the inputs: only marked ones are accepted.
    picked = {**made.tensors, "inputs": parts()[1].x[:5], "predicted": torch.zeros(5, dtype=torch.int64)}
    with pytest.raises(EvidenceTampered, match="not those that the key marks"):
        Evidence(MARKS, picked, made.facts).verify(copied())
    decoy = next(made.decoys(1)).save(tmp_path / "decoy")
    with pytest.raises(EvidenceTampered, match="not those that the key marks"):
        load_evidence(decoy).verify(copied())
    with pytest.raises(EvidenceTampered, match="no record"):
        Evidence(MARKS, {"inputs": made.tensors["inputs"]}, made.facts).verify(copied())


def test_rows_that_share_a_decision_are_asked_once():
    rows = parts()[1]
    twice = rows.concat(rows)
    assert len(MARKS.register(victim(), twice).tensors["inputs"]) == len(evidence().tensors["inputs"])
    coarse = DawnMarks(rate=0.2, key=KEY, grain=4.0)
    marked = coarse.choose(rows.x, victim().labels(rows.x).numpy(), 10).marked.sum()
    assert len(coarse.register(victim(), rows).tensors["inputs"]) < marked


def test_too_little_to_decide():
    made = evidence()
    few = {**made.tensors, "inputs": made.tensors["inputs"][:2], "predicted": made.tensors["predicted"][:2]}
    with pytest.raises(InvalidInput, match="record more answers"):
        Evidence(MARKS, few, made.facts).verify(copied())
    with pytest.raises(BudgetExceeded, match="at least 3"):
        made.verify(copied(), budget=2)
    with pytest.raises(InvalidInput, match="none of the"):
        DawnMarks(rate=0.0, key=KEY).register(victim(), parts()[1])
    with pytest.raises(InvalidInput, match="needs a secret"):
        DawnMarks().register(victim(), parts()[1])
    with pytest.raises(InvalidInput, match="does not take"):
        MARKS.register(victim(), Dataset(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), ("a", "b")))
    for options in ({"rate": 0.7}, {"controls": 0}, {"grain": -1.0}, {"directions": 0}):
        with pytest.raises(InvalidInput):
            DawnMarks(**options)


def test_built_by_name_and_pictures():
    assert create("dawn", "evidence", {"rate": "0.05", "key": KEY}) == MARKS
    name, row = next(MARKS.pictures(evidence(), 3))
    assert name in digits().classes
    assert row.shape == (1, 8, 8)
    assert KEY not in repr(MARKS)
