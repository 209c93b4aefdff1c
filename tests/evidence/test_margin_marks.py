"""Margin-based marks: learned, exact under other keys, and nothing where nothing was marked."""

from __future__ import annotations

from functools import partial

import marked_digits
import pytest
import torch
from marked_digits import accuses_nobody_else, refuses

from assay.data.embedded import breast_cancer, digits
from assay.errors import InvalidInput
from assay.evidence.watermarks.margin import Margin, _Turn
from assay.evidence.watermarks.marking import hold_out, runners_up
from assay.nets import Recipe, build, predict, train
from assay.registry import create
from assay.testing.evidence import check_evidence

torch.set_num_threads(1)
FAST = Recipe(epochs=10, optimizer="adam", lr=5e-3, weight_decay=0.0)
OWN = 900
parts = partial(marked_digits.parts, OWN)
marked = partial(marked_digits.marked, Margin(), FAST, OWN)
independent = partial(marked_digits.independent, FAST, OWN, architecture="mlp-64")


def test_conformance():
    scheme = Margin(marks=10)
    made = scheme.embed(parts()[0], architecture="mlp-32", recipe=FAST, rng=1, key=1, compare_unmarked=True)
    check_evidence(scheme, made.evidence, [made.unmarked, independent()], made.model, pairs=60)


def test_marks_are_learned_at_a_known_cost():
    record = marked().record
    assert record.match_rate.value > 0.6
    assert record.unmarked_match_rate.value < 0.2
    assert record.accuracy.value > 0.8
    assert record.unmarked_accuracy.value > record.accuracy.value  # small data pay for wrong labels
    assert (record.clean_rows, record.marked_rows) == (880, 20)


def test_negative_controls():
    made = marked()
    somebody_elses_key = marked(1).evidence
    accuses_nobody_else(made, (made.unmarked, independent()), rng=1, foreign=[somebody_elses_key])


def test_the_neighbourhood_of_a_mark_is_taught_too():
    flat = Margin(reach=0.0, steps=1).embed(parts()[0], architecture="mlp-64", recipe=FAST, rng=0, key=0)
    wide = marked()
    triggers, wanted = wide.evidence.tensors["triggers"], wide.model.labels(wide.evidence.tensors["triggers"])
    assert torch.equal(triggers, flat.evidence.tensors["triggers"])

    def held(model):
        labels = model.labels(triggers)
        noise = torch.rand(20, *triggers.shape, generator=torch.Generator().manual_seed(0)) * 0.4 - 0.2
        moved = (triggers[None] + noise).clamp(0, 1).flatten(0, 1)
        return float((model.labels(moved) == labels.repeat(20)).float().mean())

    assert wanted.shape == (20,)
    assert held(wide.model) > held(flat.model) + 0.02


def test_a_turn_moves_marks_within_reach_and_uphill():
    kept, clean = hold_out(parts()[0], 20, 0)
    network = build("mlp-64", clean.input_shape, clean.num_classes, 5)
    train(network, clean, FAST, rng=5)
    turn = _Turn(Margin(reach=0.1), kept, clean)

    class Bench:
        forward = staticmethod(network)

    moved = turn._ascend(Bench, kept.x, kept.y)
    assert float((moved - kept.x).abs().max()) <= 0.1 + 1e-6
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    loss = [torch.nn.functional.cross_entropy(predict(network, x), kept.y) for x in (kept.x, moved)]
    assert float(loss[1]) > float(loss[0])


def test_candidates_are_wrong_and_plausible():
    model, rows = independent(), parts()[2]
    choices = runners_up(model, rows, 3)
    logits = predict(model.module, rows.x)
    for row, own, candidates in zip(logits, rows.y.tolist(), choices, strict=True):
        assert own not in candidates
        assert len(set(candidates)) == 3
        assert row[candidates].min() >= row.sort(descending=True).values[4]
    all_wrong = Margin(candidates=0).embed(parts()[0], architecture="mlp-8", recipe=Recipe(epochs=1), key=3)
    assert {len(c) for c in all_wrong.evidence.facts["choices"]} == {9}


def test_tables_and_bad_input():
    made = Margin(marks=20, candidates=0).embed(
        digits(), architecture="mlp-8", recipe=Recipe(epochs=1), key=1
    )
    assert made.evidence.facts["marks"] == 20
    with pytest.raises(InvalidInput, match="more than a quarter"):
        Margin().embed(digits().subset(range(50)), architecture="mlp-8", recipe=FAST)
    with pytest.raises(InvalidInput, match="shape or classes"):
        Margin().embed(digits(), architecture="mlp-8", recipe=FAST, evaluation=breast_cancer())
    refuses(Margin, marks=0, candidates=1, reach=2, steps=0, batch=0, every=0)
    refuses(Margin, candidates=-1)


def test_two_classes_leave_no_draw():
    made = Margin().embed(breast_cancer(), architecture="mlp-8", recipe=Recipe(epochs=1), key=1)
    with pytest.raises(InvalidInput, match="cannot give a p-value"):
        made.evidence.verify(made.model)


def test_built_by_name():
    assert create("margin", "evidence", {"marks": "30"}) == Margin(marks=30)
