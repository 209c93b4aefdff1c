"""The entangled watermark: contract, exact level, blindness to the key, controls, ablation."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from assay.adapters import TorchModel
from assay.data.dataset import Dataset
from assay.data.embedded import breast_cancer, digits
from assay.errors import BudgetExceeded, InvalidInput
from assay.evidence.watermarks import Entangled, EntangledRecord
from assay.evidence.watermarks.examination import parts
from assay.evidence.watermarks.keys import draw_choices, draw_key
from assay.nets import Recipe, build, train
from assay.registry import create
from assay.testing import check_evidence

torch.set_num_threads(1)
FAST = Recipe(epochs=6, optimizer="adam", lr=0.01, weight_decay=0.0)
FAMILIES = Entangled(select=False, source="families", marks=8, triggers=32, rehearsals=1, weight=0.5)


@cache
def halves():
    data = digits()
    order = np.random.default_rng(0).permutation(len(data))
    return data.subset(order[:900], "train"), data.subset(order[900:], "test")


@cache
def families():
    own, test = halves()
    return FAMILIES.embed(
        own, architecture="mlp-64", recipe=FAST, rng=0, key=0, evaluation=test, compare_unmarked=True
    )


@cache
def clean(seed):
    network = build("mlp-32", (1, 8, 8), 10, seed)
    train(network, halves()[0], Recipe(epochs=3, optimizer="adam", lr=0.01), rng=seed)
    return TorchModel(network, name=f"clean {seed}")


def test_contract_of_families():
    found = families()
    check_evidence(
        FAMILIES, found.evidence, [found.unmarked, clean(0), clean(1)], found.model, alpha=0.05, pairs=24
    )


def test_contract_of_patches():
    own, _ = halves()
    scheme = Entangled(select=False, source="patch", marks=8, triggers=16, rehearsals=1)
    found = scheme.embed(own, architecture="mlp-64", recipe=FAST, key=1, compare_entanglement=False)
    check_evidence(scheme, found.evidence, [clean(0), clean(1)], found.model, alpha=0.05, pairs=20)
    assert found.evidence.facts["source"] == "patch"
    assert len(set(found.evidence.facts["names"])) == 8


def test_contract_of_borderlines():
    own, test = halves()
    slow = Recipe(epochs=2, optimizer="adam", lr=0.01)  # leaves enough rows undecided
    scheme = Entangled(select=False, marks=6, triggers=24, rehearsals=1, share=0.4)
    found = scheme.embed(own, architecture="mlp-16", recipe=slow, key=2, evaluation=test)
    check_evidence(scheme, found.evidence, [clean(0), clean(1)], alpha=0.05, pairs=20)
    assert found.evidence.verify(found.model, alpha=0.5).details["matches"] > 0
    whole = parts(found.evidence)
    rows = {x.numpy().tobytes() for x in own.x}
    assert all(x.numpy().tobytes() in rows for x in whole.triggers)  # ordinary inputs, as they were


def test_the_record_says_what_marking_and_entangling_did(tmp_path):
    record = families().record
    assert record.match_rate.value > 0.6
    assert record.unmarked_match_rate.value < record.match_rate.value
    assert record.unmarked_accuracy.value - record.accuracy.value < 0.06
    assert 0 <= record.rehearsed_rate <= 1
    assert 0 <= record.chosen_rate <= 1
    for interval in (record.copy_match_rate, record.ablation_match_rate, record.ablation_copy_match_rate):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert record.ablation_match_rate.value > 0.6
    assert min(record.entanglement_shares.values()) > 0.1
    families().save(tmp_path / "victim")
    assert EntangledRecord.load(tmp_path / "victim" / "embedding.json") == record


def test_the_true_key_chooses_nothing_but_the_targets(monkeypatch):
    own = halves()[0].subset(range(400))
    scheme = Entangled(select=False, source="families", marks=5, triggers=10, rehearsals=2)
    brief = Recipe(epochs=1, optimizer="adam", lr=0.01)
    drawn = []

    def other_targets(key, triggers, choices):
        # As another key with the same inputs would have drawn: the last candidate of every mark.
        targets = draw_choices(key, triggers, choices)
        flipped = np.array([c[0] if t == c[-1] else c[-1] for c, t in zip(choices, targets, strict=True)])
        drawn.append((targets, flipped))
        return flipped

    first = scheme.embed(own, architecture="mlp-8", recipe=brief, key=4)
    monkeypatch.setattr("assay.evidence.watermarks.trigger_scheme.draw_choices", other_targets)
    second = scheme.embed(own, architecture="mlp-8", recipe=brief, key=4)
    assert (drawn[0][0] != drawn[0][1]).all()
    assert first.evidence.facts["choices"] == second.evidence.facts["choices"]
    for name, tensor in first.evidence.tensors.items():
        assert torch.equal(tensor, second.evidence.tensors[name]), name
    assert first.model.digest != second.model.digest  # but another model


def test_models_without_the_mark_are_no_thieves():
    found = families()
    own, _ = halves()
    copied = build("mlp-64", (1, 8, 8), 10, 77)  # a copy of the unmarked model, by queries
    train(copied, own, FAST, targets=found.unmarked.labels(own.x), rng=77)
    assert not found.evidence.verify(TorchModel(copied)).stolen
    assert not found.evidence.verify(found.unmarked).stolen
    wrong = [e.verify(found.model, alpha=0.01) for e in found.evidence.decoys(20, rng=3)]
    assert sum(v.stolen for v in wrong) <= 2
    other = FAMILIES.embed(own, architecture="mlp-64", recipe=FAST, key=9).model
    assert not found.evidence.verify(other).stolen  # somebody else's mark


def test_a_constant_answer_is_no_mark():
    evidence = families().evidence

    class Constant:
        from assay.model import Access

        access, digest, input_shape, num_classes, name = Access.LABELS, "c", (1, 8, 8), 10, "constant"

        def labels(self, x):
            return torch.full((len(x),), self.answer)

    p_values = []
    for answer in range(10):
        suspect = Constant()
        suspect.answer = answer
        p_values += [e.verify(suspect).p_value for e in evidence.decoys(12, rng=answer)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.12


def test_candidates_and_turns():
    evidence = families().evidence
    whole = parts(evidence)
    assert len(whole.choices) == 8
    assert all(len(set(c)) == 2 for c in whole.choices)
    assert whole.mark[:8].tolist() == list(range(8))
    assert len(whole.triggers) == 32
    assert evidence.verify(families().model, alpha=0.05, budget=16).queries <= 16
    with pytest.raises(BudgetExceeded):
        evidence.verify(families().model, alpha=0.05, budget=3)
    with pytest.raises(InvalidInput, match="marks"):
        evidence.verify(families().model, alpha=1e-4)  # 2 ** -8 is larger


def test_repeatable_by_key_and_secret_without():
    own = halves()[0].subset(range(300))
    scheme = Entangled(select=False, source="families", marks=3, triggers=6, rehearsals=0)
    brief = Recipe(epochs=1, optimizer="adam", lr=0.01)
    made = [scheme.embed(own, architecture="mlp-8", recipe=brief, key=k) for k in (5, 5, 6, None)]
    commitments = [m.record.commitment for m in made]
    assert commitments[0] == commitments[1] == made[0].evidence.commitment
    assert len(set(commitments)) == 3
    assert made[0].model.digest == made[1].model.digest
    assert made[3].evidence.facts["key"] != draw_key(5)


def test_unsuited_data_are_refused():
    options = {"architecture": "mlp-8", "recipe": FAST, "key": 0}
    with pytest.raises(InvalidInput, match="4 x 4"):
        Entangled(source="families").embed(breast_cancer(), **options)
    with pytest.raises(InvalidInput, match="images"):
        Entangled(select=False, source="patch", marks=2, triggers=4).embed(breast_cancer(), **options)
    few = halves()[0].subset(range(100))
    with pytest.raises(InvalidInput, match="too few to hold out"):
        Entangled(triggers=60).embed(few, **options)
    wrong = Dataset(torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 0]), ("a", "b"))
    with pytest.raises(InvalidInput, match="shape or classes"):
        Entangled().embed(few, evaluation=wrong, **options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "sky"},
        {"marks": 0},
        {"candidates": 1},
        {"candidates": 3},  # a borderline has two sides
        {"triggers": 9, "select": False},
        {"triggers": 0},
        {"cluster": 0.0},
        {"thieves": 0},
        {"nulls": 0},
        {"attempts": 0},
        {"enough": 1.5},
        {"panel": 18},
        {"rehearsals": -1},
        {"ratio": 0.0},
        {"warm_up": 1.0},
        {"share": 0.0},
        {"weight": -1.0},
        {"temperature": 0.0},
        {"distance": "manhattan"},
    ],
)
def test_options_out_of_range(wrong):
    with pytest.raises(InvalidInput):
        Entangled(**wrong)


def test_registered_and_configurable_by_text():
    scheme = create("entangled", "evidence", {"source": "patch", "layers": "body.2,body.6", "weight": "0"})
    assert scheme == Entangled(source="patch", layers=("body.2", "body.6"), weight=0.0)
