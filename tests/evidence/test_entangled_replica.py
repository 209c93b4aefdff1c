"""The entangled watermark on a small Fashion-MNIST: slow, and skipped where the data are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from assay.data import load_data
from assay.data.dataset import Dataset
from assay.errors import AssayError
from assay.evidence.watermarks import Entangled
from assay.nets import Network, Recipe
from assay.registry import register

pytestmark = pytest.mark.slow
torch.set_num_threads(1)
RECIPE = Recipe(epochs=10, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="constant")


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


def _pooled(split, count):
    try:
        data = load_data("fashion-mnist", split=split)
    except AssayError as error:
        pytest.skip(f"Fashion-MNIST is not here: {error}")
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:count]
    return Dataset(functional.avg_pool2d(data.x[rows], 2), data.y[rows], data.classes, data.value_range)


@pytest.fixture(scope="module")
def marked():
    own, test = _pooled("train", 6000), _pooled("test", 4000)
    scheme = Entangled(marks=8, triggers=48, rehearsals=2)
    return [
        scheme.embed(
            own,
            architecture="fashionreplica",
            recipe=RECIPE,
            rng=100_000 * seed,
            key=seed,
            evaluation=test,
            compare_unmarked=True,
        ).record
        for seed in range(3)
    ]


def test_the_mark_reaches_copies_made_by_label_queries(marked):
    copies = np.array([record.copy_match_rate.value for record in marked])
    controls = np.array([record.unmarked_match_rate.value for record in marked])
    assert copies.mean() >= controls.mean() + 0.1
    assert np.mean([r.copy_match_rate.value / r.match_rate.value for r in marked]) > 0.8


def test_the_entanglement_term_is_not_inert(marked):
    for record in marked:
        assert min(record.entanglement_shares.values()) >= 0.1


def test_what_marking_costs(marked):
    costs = [record.unmarked_accuracy.value - record.accuracy.value for record in marked]
    assert np.mean(costs) < 0.11  # far from the 0.02 one would like; see the method card
