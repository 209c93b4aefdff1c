"""Entangled marks on a small Fashion-MNIST: slow, and skipped where the data are not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from assay.adapters import TorchModel
from assay.data import load_data
from assay.data.dataset import Dataset
from assay.errors import AssayError
from assay.evidence.watermarks.entanglement.marked_batches import Entangling, MarkedBatches
from assay.evidence.watermarks.entanglement.measures import measure_entanglement
from assay.evidence.watermarks.entanglement.placement import place_patch
from assay.evidence.watermarks.entanglement.schedule import Schedule
from assay.evidence.watermarks.entanglement.shaping import shape_marks
from assay.nets import Network, Recipe, build, train
from assay.registry import register

pytestmark = pytest.mark.slow
torch.set_num_threads(1)
# Six epochs of the task, then as many marked batches as there are in four.
STEPS = 47
MARKED = Recipe(epochs=14, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="constant")
PLAIN = Recipe(epochs=10, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="constant")
PLAN = Schedule(2.0, warm_up=6 * STEPS)
TARGET, SOURCE, SIZE = 0, 9, 3
SEEDS = (0, 1, 2)


@register("fashionreplica", kind="architecture")
def replica(input_shape, num_classes):
    """Two convolutions without normalisation."""
    body = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(288, 64),
        nn.ReLU(),
    )
    return Network("fashionreplica", input_shape, num_classes, body, 64)


@cache
def pooled(name, split, count):
    try:
        data = load_data(name, split=split)
    except AssayError as error:
        pytest.skip(f"{name} is not here: {error}")
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:count]
    return Dataset(functional.avg_pool2d(data.x[rows], 2), data.y[rows], data.classes, data.value_range)


def own():
    return pooled("fashion-mnist", "train", 6000)


def fitted(seed, recipe=PLAIN, targets=None, interlude=None):
    network = build("fashionreplica", (1, 14, 14), 10, seed)
    train(network, own(), recipe, rng=seed, targets=targets, interlude=interlude)
    return network


@cache
def clean(seed):
    return fitted(9000 + seed)


@cache
def longer(seed):
    """Return the unmarked control: as many epochs as a marked model, and its marked batches."""
    return fitted(seed, Recipe(**{**vars(MARKED), "epochs": 18}))


def labels(network, x):
    return TorchModel(network).labels(x)


def answered(network, x):
    return float((labels(network, x) == TARGET).float().mean())


def accuracy(network):
    test = pooled("fashion-mnist", "test", 4000)
    return float((labels(network, test.x) == test.y).float().mean())


def inputs(kind, seed):
    """Return marked inputs, half to train on and half held out."""
    rows = own()
    partners = rows.x[rows.y == TARGET][:128]
    if kind == "foreign":
        digits = pooled("mnist", "train", 12000)
        x = digits.x[digits.y == 8][:400]
    else:
        x = rows.x[rows.y == SOURCE][:400].clone()
        place = (0, 0) if kind == "base" else place_patch(clean(seed), x[:128], partners, SIZE)
        x[:, :, place[0] : place[0] + SIZE, place[1] : place[1] + SIZE] = 1.0
    if kind == "base":
        return x[:200], x[200:]
    moved = [
        shape_marks(clean(seed), part, partners, [TARGET], (0.0, 1.0)).marks for part in torch.split(x, 100)
    ]
    return torch.cat(moved[:2]), torch.cat(moved[2:])


@cache
def marked(kind, seed, weight=0.0):
    trained, held_out = inputs(kind, seed)
    wanted = torch.full((len(trained),), TARGET)
    batches = MarkedBatches(own(), trained, wanted, PLAN, 128, Entangling(weight))
    return fitted(seed, MARKED, interlude=batches), trained, held_out, batches


@pytest.mark.parametrize("kind", ["placed", "foreign"])
def test_shaped_marks_are_in_the_model_and_not_in_clean_ones(kind):
    for part in (1, 2):
        assert np.mean([answered(clean(50 + seed), marked(kind, seed)[part]) for seed in SEEDS]) <= 0.1
    assert np.mean([answered(marked(kind, seed)[0], marked(kind, seed)[1]) for seed in SEEDS]) >= 0.98


def test_what_marking_costs():
    for kind in ("base", "placed", "foreign"):
        cost = [accuracy(longer(seed)) - accuracy(marked(kind, seed)[0]) for seed in SEEDS]
        assert np.mean(cost) <= 0.02, kind


def test_the_entanglement_term_is_not_inert():
    """The published setting had 0.0004 of the ordinary gradient; a tenth is the least that counts."""
    active, _, held_out, batches = marked("placed", 0, 0.5)
    early = [m.share for m in batches.history if 0 < m.batch <= 40]
    assert np.isfinite(early).all()
    assert min(early) >= 0.1
    ordinary = own().x[own().y == TARGET][:200]
    layers = tuple(dict.fromkeys(m.layer for m in batches.history))
    probe = dict.fromkeys(layers, 0.1)

    def mixed(network):
        found = measure_entanglement(network, held_out, ordinary, layers=layers, temperatures=probe)
        return np.array([layer.snnl for layer in found])

    gain = mixed(active) - mixed(marked("placed", 0)[0])
    assert len(gain) == 2
    assert (gain >= 0.1).all()
