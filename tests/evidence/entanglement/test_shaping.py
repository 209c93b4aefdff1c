"""Shaped marks: inside range and cap, not answered by clean models, and nearer to the task."""

import numpy as np
import pytest
import torch

from assay.data.embedded import digits
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.shaping import Shaping, shape_marks
from assay.nets import Recipe, build, train

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clean():
    data = digits()
    network = build("cnn-4", (1, 8, 8), 10, 0)
    train(network, data, Recipe(epochs=6, optimizer="adam", lr=0.01, precision="fp32"), rng=0)
    return network, data


def _rows(data, label, count=64):
    return data.x[data.y == label][:count]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_every_promise_of_a_shaped_batch(clean, distance):
    network, data = clean
    grew = []
    for source, classes in [(3, [8]), (4, [9, 1]), (7, [9]), (1, [8, 2])]:
        marks = _rows(data, source)
        ordinary = torch.cat([_rows(data, c) for c in classes])
        found = shape_marks(network, marks, ordinary, classes, (0.0, 1.0), distance=distance)
        assert found.marks.min() >= 0
        assert found.marks.max() <= 1
        with torch.no_grad():
            answers = network(found.marks).argmax(1)
        rate = np.isin(answers.numpy(), classes).mean()
        assert found.rate == pytest.approx(rate)
        assert (rate <= 0.1) != found.capped
        assert not found.capped
        grew += [after >= before - 1e-6 for before, after in found.mixing]
    assert np.mean(grew) >= 0.95


def test_marks_that_clean_models_answer_with_the_target_are_moved_away(clean):
    network, data = clean
    own = _rows(data, 5)  # all of them are answered with the target at first
    found = shape_marks(network, own, _rows(data, 5), [5], (0.0, 1.0))
    assert found.away > 0
    assert found.rate <= 0.1


def test_the_cap_is_kept_and_running_out_of_steps_is_reported(clean):
    network, data = clean
    own = _rows(data, 0)
    found = shape_marks(network, own, own, [0], (0.0, 1.0), Shaping(cap=0.03))
    assert float((found.marks - own).abs().max()) <= 0.03 + 1e-6
    assert found.capped
    assert found.away == 50
    assert found.rate > 0.1
    few = shape_marks(network, own, own, [0], (0.0, 1.0), Shaping(most=3, rounds=2, final=1))
    assert float((few.marks - own).abs().max()) <= 0.06 + 1e-6


def test_all_candidates_are_treated_alike(clean):
    network, data = clean
    marks, ordinary = _rows(data, 4, 16), torch.cat([_rows(data, 9, 8), _rows(data, 1, 8)])
    one = shape_marks(network, marks, ordinary, [9, 1], (0.0, 1.0))
    other = shape_marks(network, marks, ordinary, [1, 9], (0.0, 1.0))
    assert torch.equal(one.marks, other.marks)


def test_the_network_is_left_as_it_was(clean):
    network, data = clean
    network.zero_grad()
    before = [p.clone() for p in network.parameters()]
    shape_marks(network, _rows(data, 4, 8), _rows(data, 9, 8), [9], (0.0, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(p.grad is None for p in network.parameters())


def test_bad_input(clean):
    network, data = clean
    rows = _rows(data, 4, 4)
    with pytest.raises(InvalidInput, match="target class"):
        shape_marks(network, rows, rows, [], (0.0, 1.0))
    with pytest.raises(InvalidInput, match="finite"):
        shape_marks(network, rows, rows, [1], (-np.inf, 1.0))
    for wrong in ({"step": 0}, {"threshold": 2}, {"most": -1}, {"rounds": -1}, {"final": -1}, {"cap": 0}):
        with pytest.raises(InvalidInput, match="Shaping"):
            Shaping(**wrong)
