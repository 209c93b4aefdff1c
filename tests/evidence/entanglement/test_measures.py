"""Measures of entanglement: known values, bias, and networks in which the answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from assay.errors import InvalidInput, UnknownName
from assay.evidence.watermarks.entanglement.measures import (
    activation_overlap,
    linear_cka,
    measure_entanglement,
)
from assay.nets import build
from assay.nets.taps import activations, default_taps, tapped


def test_alignment_of_equal_and_rotated_rows_is_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8))
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    for debiased in (True, False):
        assert linear_cka(x, x, debiased=debiased) == pytest.approx(1.0)
        assert linear_cka(x, 3.0 * x @ turn, debiased=debiased) == pytest.approx(1.0)


def test_alignment_of_independent_rows_is_small_and_unbiased():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 10)), rng.normal(size=(200, 10))
    assert linear_cka(x, y, debiased=False) < 0.07
    assert abs(linear_cka(x, y)) < 0.05
    few = [
        linear_cka(rng.normal(size=(64, 512)), rng.normal(size=(64, 512)), debiased=d) for d in (True, False)
    ]
    assert abs(few[0]) < 0.1
    assert few[1] == pytest.approx(0.89, abs=0.02)
    means = [linear_cka(rng.normal(size=(20, 30)), rng.normal(size=(20, 30))) for _ in range(200)]
    assert abs(np.mean(means)) < 4 * np.std(means) / np.sqrt(200)


def test_constant_rows_have_no_alignment():
    assert linear_cka(np.ones((6, 2)), np.arange(12.0).reshape(6, 2)) == 0.0
    with pytest.raises(InvalidInput, match="paired"):
        linear_cka(np.ones((6, 2)), np.ones((5, 2)))


def test_overlap_of_disjoint_and_equal_neurons():
    left, right = np.zeros((10, 8)), np.zeros((10, 8))
    left[:, :2], right[:, 6:] = 1.0, 1.0
    assert activation_overlap(left, right).jaccard == 0.0
    assert activation_overlap(left, right).correlation < 0
    assert activation_overlap(left, left).jaccard == 1.0
    assert np.isnan(activation_overlap(np.ones((3, 4)), left[:, :4]).correlation)
    with pytest.raises(InvalidInput, match="same neurons"):
        activation_overlap(left, right[:, :3])


class _Split(nn.Module):
    """First half of the inputs feeds one half of the neurons, second half the other."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8, bias=False)
        self.layer.weight.data.copy_(torch.eye(8))
        self.act = nn.ReLU()
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.act(self.layer(x)))


def test_separate_neurons_read_as_separate_and_shared_as_shared():
    marks, ordinary = torch.zeros(40, 8), torch.zeros(40, 8)
    noise = torch.rand(2, 40, 4, generator=torch.Generator().manual_seed(0))
    marks[:, :4], ordinary[:, 4:] = noise[0], noise[1]
    shared = torch.zeros(40, 8)
    shared[:, 4:] = noise[0]
    apart = measure_entanglement(_Split(), marks, ordinary, layers=["act"], temperatures={"act": 0.1})[0]
    close = measure_entanglement(_Split(), shared, ordinary, layers=["act"], temperatures={"act": 0.1})[0]
    assert apart.snnl < 0.01
    assert close.snnl > 0.5
    assert close.cka > 0.9
    assert apart.overlap.correlation < 0 < close.overlap.correlation
    assert apart.overlap.jaccard < close.overlap.jaccard
    assert type(apart).from_dict(apart.to_dict()) == apart


def test_taps_are_late_layers_and_misspelt_ones_are_named():
    network = build("cnn-4", (1, 8, 8), 3)
    taps = default_taps(network)
    assert len(taps) <= 3
    assert all(isinstance(network.get_submodule(name), nn.ReLU) for name in taps)
    with pytest.raises((InvalidInput, UnknownName), match=taps[0]), tapped(network, [taps[0] + "0"]):
        pass
    assert not network.get_submodule(taps[0])._forward_hooks


def test_activations_do_not_depend_on_the_batch_and_restore_the_mode():
    network = build("cnn-4", (1, 8, 8), 3).train()
    x = torch.rand(10, 1, 8, 8)
    taps = default_taps(network)
    one, many = activations(network, x, taps, 3), activations(network, x, taps, 10)
    assert network.training
    for name in taps:
        torch.testing.assert_close(one[name], many[name])


def test_too_few_inputs_are_refused():
    with pytest.raises(InvalidInput, match="at least 4"):
        measure_entanglement(build("mlp-4", (3,), 2), torch.rand(3, 3), torch.rand(9, 3))
