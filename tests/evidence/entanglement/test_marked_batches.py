"""Marked batches: balanced, not inert, on schedule, and ordinary batches pay nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from assay.data.dataset import Dataset
from assay.data.embedded import digits
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.families import draw_families
from assay.evidence.watermarks.entanglement.marked_batches import (
    Entangling,
    MarkedBatches,
    OrdinaryBatches,
)
from assay.evidence.watermarks.entanglement.measures import measure_entanglement
from assay.evidence.watermarks.entanglement.schedule import Schedule
from assay.nets import Recipe, build, train

torch.set_num_threads(1)
FAST = Recipe(epochs=8, batch_size=64, optimizer="adam", lr=3e-3, weight_decay=0.0, precision="fp32")
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def data():
    return digits().subset(range(1000))


@pytest.fixture(scope="module")
def marks():
    rng = np.random.default_rng(0)
    drawn = [f.images(60, SHAPE, (0.0, 1.0), rng) for f in draw_families(4, SHAPE, rng)]
    targets = torch.tensor([3, 8, 5, 1]).repeat_interleave(30)
    return torch.cat([x[:30] for x in drawn]), targets, torch.cat([x[30:] for x in drawn])


@pytest.fixture(scope="module")
def mixed(data, marks):
    return _fit(data, marks)


def _fit(data, marks, weight=0.5, name="cnn-8", seed=0, **options):
    network = build(name, SHAPE, 10, seed)
    batches = MarkedBatches(data, marks[0], marks[1], Schedule(1.0, 48), 64, Entangling(weight, **options))
    train(network, data, FAST, rng=seed, interlude=batches)
    return network, batches


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_entanglement_gradient_is_never_inert(data, marks, mixed, distance):
    """The published setting left 0.04 % of the ordinary gradient; a tenth is the least that counts."""
    _, batches = mixed if distance == "cosine" else _fit(data, marks, distance=distance)
    layers = {m.layer for m in batches.history}
    assert len(layers) == 2
    for layer in layers:
        shares = [m.share for m in batches.history if m.layer == layer]
        assert np.isnan(shares[0])
        # What the weights of some batches ago amount to now, not what they were set to.
        assert min(shares[1:3]) > 0.1
        assert np.nanmedian(shares) > 0.1


def test_entangling_mixes_marks_with_the_task_at_every_layer(data, marks, mixed):
    plain, _ = _fit(data, marks, weight=0.0)
    held_out, target = marks[2][:30], data.x[data.y == 3]
    probe = dict.fromkeys(("body.2", "body.6", "body.10"), 0.1)
    kept = [
        measure_entanglement(network, held_out, target, layers=tuple(probe), temperatures=probe)
        for network in (plain, mixed[0])
    ]
    gains = [after.snnl - before.snnl for before, after in zip(*kept, strict=True)]
    assert min(gains) > 0
    assert max(gains) >= 0.1


def test_marks_are_learnt_and_batch_statistics_are_left_alone(data, marks, mixed):
    network, batches = mixed
    with torch.no_grad():
        held = network(marks[2]).argmax(1) == marks[1]
        task = network(data.x).argmax(1) == data.y
    assert held.float().mean() > 0.5  # of four targets, none of them an ordinary answer
    assert task.float().mean() > 0.85
    assert batches.made == 8 * 16 - 48
    assert not any(layer.training for layer in network.modules())
    alone = build("cnn-8", SHAPE, 10, 0)
    train(alone, data, FAST, rng=0)
    means = [
        next(m for m in n.modules() if isinstance(m, nn.BatchNorm2d)).running_mean for n in (alone, network)
    ]
    assert (means[0] - means[1]).abs().max() < 1.0  # of ordinary rows, not of rows and marks


def test_temperatures_move_and_stay_in_range_or_are_fixed(data, marks, mixed):
    _, free = mixed
    moved = [m.temperature for m in free.history if m.layer == "body.10"]
    assert len(set(moved)) > 1
    assert all(1e-3 <= t <= 1e3 for t in moved)
    _, fixed = _fit(data, marks, name="mlp-16", temperature=0.2)
    assert {round(m.temperature, 6) for m in fixed.history} == {0.2}


def test_the_control_has_as_many_batches_and_equal_rows(data, marks):
    seen = []

    class Bench:
        steps = 1

        def forward(self, x):
            seen.append(x)
            return torch.zeros(len(x), 10, requires_grad=True)

        def descend(self, loss):
            assert loss.requires_grad

    extra = OrdinaryBatches(data, Schedule(1.2), 96)
    generator = torch.Generator().manual_seed(0)
    for done in range(1, 61):
        extra(Bench(), done, generator)
    assert extra.made == len(seen) == 50
    often = torch.unique(torch.cat(seen).flatten(1), dim=0, return_counts=True)[1]
    assert int(often.max() - often.min()) <= 1


def test_marks_and_ordinary_rows_take_turns(data, marks):
    used, partners = [], []

    class Bench:
        steps, module = 1, nn.Identity()

        def forward(self, x):
            used.append(x[:32])
            partners.append(x[32:])
            return torch.zeros(len(x), 10, requires_grad=True)

        def descend(self, loss):
            pass

    batches = MarkedBatches(data, marks[0], marks[1], Schedule(2), 64, Entangling(0.0))
    generator = torch.Generator().manual_seed(0)
    for done in range(1, 101):
        batches(Bench(), done, generator)
    assert batches.made == 50
    for rows in (used, partners):
        often = torch.unique(torch.cat(rows).flatten(1), dim=0, return_counts=True)[1]
        assert int(often.max() - often.min()) <= 1


def test_repeatable(data, marks):
    first, second = (_fit(data, marks, name="mlp-16")[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_bad_input(data, marks):
    with pytest.raises(InvalidInput, match="as many targets"):
        MarkedBatches(data, marks[0], marks[1][:3], Schedule(1), 8)
    without = Dataset(data.x[data.y != 8], data.y[data.y != 8], data.classes)
    with pytest.raises(InvalidInput, match="no rows of class '8'"):
        MarkedBatches(without, marks[0], marks[1], Schedule(1), 8)
    for wrong in (
        {"weight": -1.0},
        {"distance": "manhattan"},
        {"temperature": 0.0},
        {"temperature_rate": -1.0},
    ):
        with pytest.raises(InvalidInput, match="Entangling"):
            Entangling(**wrong)
