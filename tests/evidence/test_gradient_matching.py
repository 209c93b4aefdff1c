"""Gradient matching: rows shifted within bounds, labels untouched, gradients aligned, an exact test."""

from __future__ import annotations

from functools import cache, partial

import marked_digits
import pytest
import torch
from marked_digits import accuses_nobody_else, refuses

from assay.data.embedded import digits
from assay.errors import InvalidInput
from assay.evidence.watermarks.gradient_matching import GradientMatching, match_gradients
from assay.nets import Recipe, build, train
from assay.registry import create
from assay.testing.evidence import check_evidence

torch.set_num_threads(1)
FAST = Recipe(epochs=25, optimizer="adam", lr=3e-3, weight_decay=0.0)
OWN = 1000
parts = partial(marked_digits.parts, OWN)
poisoned = partial(marked_digits.marked, GradientMatching(iterations=40), FAST, OWN)
independent = partial(marked_digits.independent, FAST, OWN, seed=7)


@cache
def clean():
    network = build("mlp-32", (1, 8, 8), 10, 3)
    train(network, parts()[0], Recipe(epochs=3, optimizer="adam", lr=5e-3), rng=3)
    return network


def match(x, y, wanted_x, wanted_y, *, reach=16 / 255, iterations=60, restarts=1):
    side = torch.ones(1, 1, 8, 8)
    return match_gradients(
        clean(),
        x,
        y,
        wanted_x,
        wanted_y,
        bound=reach * side,
        span=(0 * side, side),
        iterations=iterations,
        restarts=restarts,
        generator=torch.Generator().manual_seed(0),
    )


def test_conformance():
    # Whether a weak mark is found is for the other tests; here none has to be.
    scheme = GradientMatching(marks=10, iterations=3)
    made = scheme.embed(
        parts()[0], architecture="mlp-16", recipe=Recipe(epochs=3), rng=1, key=1, compare_unmarked=True
    )
    check_evidence(scheme, made.evidence, [made.unmarked, independent()], pairs=60)


def test_marks_are_learned_without_a_wrong_label():
    made = poisoned()
    assert made.record.match_rate.value > 0.65
    assert made.evidence.verify(made.model).stolen
    assert made.record.unmarked_match_rate.value < 0.7
    assert made.record.marked_rows <= 400
    assert made.record.unmarked_accuracy.value - made.record.accuracy.value < 0.05


def test_negative_controls():
    made = poisoned()
    accuses_nobody_else(made, (made.unmarked, independent()), rng=2)


def test_gradients_meet_within_the_bounds():
    own = parts()[0]
    x, y = own.x[own.y == 5][:30], own.y[own.y == 5][:30]
    other = own.x[own.y == 3][:1]
    wanted = torch.tensor([5])
    before = match(x, y, other, wanted, reach=1e-9, iterations=1)[1]
    moved, few = match(x, y, other, wanted, iterations=5)
    best, many = match(x, y, other, wanted)
    assert many <= few < before
    assert many < 0.85 * before
    for shifted in (moved, best):
        assert float((shifted - x).abs().max()) <= 16 / 255 + 1e-6
        assert float(shifted.min()) >= 0
        assert float(shifted.max()) <= 1


def test_identical_gradients_cost_nothing():
    own = parts()[0]
    _, objective = match(own.x[:1], own.y[:1], own.x[:1], own.y[:1], reach=1e-9, iterations=1)
    assert objective == pytest.approx(0.0, abs=1e-4)


def test_restarts_keep_the_best_and_the_network_is_left_as_it_was():
    own, network = parts()[0], clean()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    args = (own.x[:5], own.y[:5], own.x[9:10], torch.tensor([int(own.y[0])]))
    assert match(*args, iterations=5, restarts=3)[1] <= match(*args, iterations=5)[1]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not network.training


def test_bad_input():
    with pytest.raises(InvalidInput, match="more than a quarter"):
        GradientMatching().embed(digits().subset(range(100)), architecture="mlp-8", recipe=FAST)
    refuses(GradientMatching, marks=0, poisons=0, reach=0.0, iterations=0, restarts=0)


def test_built_by_name():
    assert create("gradient-matching", "evidence", {"marks": "30"}) == GradientMatching(marks=30)
