"""Frontier stitching: marks lie between two classes, the key draws the side, and the test is exact."""

from __future__ import annotations

from functools import partial

import marked_digits
import pytest
import torch
from marked_digits import accuses_nobody_else, refuses

from assay.data.embedded import breast_cancer, digits
from assay.errors import InvalidInput
from assay.evidence.watermarks.boundary import to_boundary
from assay.evidence.watermarks.frontier import Frontier
from assay.nets import Recipe, predict
from assay.registry import create
from assay.testing.evidence import check_evidence

torch.set_num_threads(1)
FAST = Recipe(epochs=12, optimizer="adam", lr=5e-3, weight_decay=0.0)
OWN = 900
parts = partial(marked_digits.parts, OWN)
stitched = partial(marked_digits.marked, Frontier(), FAST, OWN)
independent = partial(marked_digits.independent, FAST, OWN)


def test_conformance():
    scheme = Frontier(marks=16)
    made = scheme.embed(parts()[0], architecture="mlp-32", recipe=FAST, rng=1, key=1, compare_unmarked=True)
    check_evidence(scheme, made.evidence, [made.unmarked, independent()], made.model, pairs=60)


def test_sides_are_learned_and_accuracy_stays():
    record = stitched().record
    assert record.match_rate.value > 0.75
    assert 0.3 < record.unmarked_match_rate.value < 0.7
    assert record.unmarked_accuracy.value - record.accuracy.value < 0.04
    assert stitched().evidence.facts["crossed"] > 90


def test_negative_controls():
    made = stitched()
    somebody_elses_key = stitched(1).evidence
    accuses_nobody_else(made, (made.unmarked, independent()), rng=2, foreign=[somebody_elses_key])


def test_both_sides_are_drawn():
    evidence = stitched().evidence
    labels = stitched().model.labels(evidence.tensors["triggers"])
    first = [c[0] for c in evidence.facts["choices"]]
    kept = (labels == torch.tensor(first)).float().mean()
    assert 0.3 < float(kept) < 0.7
    assert all(len(set(c)) == 2 for c in evidence.facts["choices"])


def test_marks_lie_on_the_guides_boundary():
    network, rows = independent().module, parts()[2]
    low, high = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    moved, sides = to_boundary(network, rows.x, low, high, reach=0.3, steps=60)
    assert float((moved - rows.x).abs().max()) <= 0.3 + 1e-5
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert torch.equal(sides[:, 0], predict(network, rows.x).argmax(1))

    def gap(x):
        logits = predict(network, x)
        return (logits.gather(1, sides[:, :1]) - logits.gather(1, sides[:, 1:])).flatten()

    assert float((gap(moved) <= 0).float().mean()) > 0.9
    assert float(gap(moved).abs().median()) < 0.2 * float(gap(rows.x).median())


def test_tables_and_bad_input():
    made = Frontier(marks=60).embed(
        breast_cancer(), architecture="mlp-16", recipe=Recipe(epochs=60, optimizer="adam", lr=0.02), key=1
    )
    x = breast_cancer().x
    triggers = made.evidence.tensors["triggers"]
    assert bool((triggers >= x.amin(0) - 1e-4).all() & (triggers <= x.amax(0) + 1e-4).all())
    assert made.evidence.verify(made.model).stolen
    with pytest.raises(InvalidInput, match="need as many rows"):
        Frontier().embed(digits().subset(range(50)), architecture="mlp-8", recipe=FAST)
    refuses(Frontier, marks=0, reach=0.0, steps=0, share=0.0)


def test_built_by_name():
    assert create("frontier", "evidence", {"marks": "30", "stop_early": "no"}) == Frontier(
        marks=30, stop_early=False
    )
