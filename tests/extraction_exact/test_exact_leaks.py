"""Output layers of language models, representers of kernels, inverted classes."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from assay.adapters import SklearnModel, TorchModel
from assay.defences.logit_bias import LogitBias
from assay.errors import InvalidInput
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.inversion import Inversion, differentiable, invert
from assay.extraction.exact.kernel_leakage import KernelLeakage
from assay.extraction.exact.kernel_net import KernelNet, matched_distances
from assay.extraction.exact.lm_head import LMHead
from assay.extraction.exact.low_rank import align, recover_head


class Language(nn.Module):
    """Prompts of p numbers, hidden states of norm sqrt(h), logits over l tokens."""

    def __init__(self, p, h, tokens):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.inner = nn.Parameter(3 * torch.randn(h, p, generator=draw, dtype=torch.float64))
        self.head = nn.Linear(h, tokens, bias=False).double()
        weights = torch.randn(tokens, h, generator=draw) / h**0.5
        self.head.weight.data.copy_(weights)

    def forward(self, x):
        states = torch.sin(x @ self.inner.T + torch.arange(len(self.inner)))
        return self.head(states / states.square().mean(1, keepdim=True).sqrt())


def test_head_of_a_large_vocabulary_from_400_logit_vectors():
    rng = np.random.default_rng(0)
    W = (rng.normal(size=(4096, 256)) / 16).astype(np.float32)
    H = rng.normal(size=(400, 256))
    H = (H / np.sqrt((H**2).mean(1, keepdims=True))).astype(np.float32)
    logits = (H @ W.T).astype(np.float64)
    shifted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    noisy = logits + 1e-3 * rng.normal(size=logits.shape)
    cases = ((logits, W, 1e-5), (shifted - shifted[:, [0]], W - W[0], 1e-5), (noisy, W, 1e-2))
    for answers, true, bound in cases:
        head = recover_head(answers)
        assert head.found
        assert head.width == 256
        assert align(head.weights, true.astype(float)) < bound


def test_no_head_without_a_drop():
    assert not recover_head(np.random.default_rng(0).normal(size=(20, 50))).found


@pytest.mark.parametrize("rotation", [False, True])
def test_head_through_scores(rotation):
    victim = Language(5, 16, 300)
    stolen = LMHead(prompts=160, rotation=rotation).run(TorchModel(victim, (5,), 300), truth=victim.head)
    assert stolen.record.cost.queries == 160
    assert stolen.worth.details["hidden"] == 16
    assert stolen.worth.details["up to a rotation"] == rotation
    assert stolen.worth.parameter_error < 1e-10


@pytest.mark.parametrize(("shown", "bias", "calls"), [(5, 60.0, 4), (1, 20.0, 1)])
def test_head_through_a_service_that_shows_few_tokens_but_takes_biases(shown, bias, calls):
    victim = Language(4, 8, 61)
    service = LogitBias(k=shown, slots=4).wear(TorchModel(victim, (4,), 61))
    stolen = LMHead(prompts=20, slots=4, bias=bias).run(service, truth=victim.head)
    assert stolen.record.cost.queries <= 1.05 * 20 * 61 / calls + 1
    assert stolen.worth.details["hidden"] == 8
    assert stolen.worth.parameter_error < 1e-6


def test_head_says_what_the_service_lacks():
    service = LogitBias(k=5, slots=4).wear(TorchModel(Language(4, 8, 61), (4,), 61))
    with pytest.raises(InvalidInput, match="set slots"):
        LMHead().run(service)
    with pytest.raises(InvalidInput, match="raise it"):
        LMHead(slots=4, bias=0.5).run(service)
    with pytest.raises(InvalidInput, match="no two logit vectors"):
        LMHead(slots=4).run(service, budget=20)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    x = data.data / 8 - 1
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], data.target[order]


def test_kernel_regression_leaks_its_training_rows(digits):
    x, y = digits
    rows, gamma = x[:20], 0.01
    features = np.exp(-gamma * ((x[:1257, None] - rows) ** 2).sum(-1))
    fitted = LogisticRegression(max_iter=2000).fit(features, y[:1257])
    victim = TorchModel(KernelNet(rows, fitted.coef_, fitted.intercept_, gamma), (64,), 10)
    stolen = KernelLeakage(starts=0).run(victim, truth=rows, uniform=2000)
    distances = matched_distances(stolen.found.parameters["representers"], rows)
    assert (distances < 1e-3).sum() == 20
    assert stolen.record.cost.queries <= 1000
    assert stolen.worth.r_unif.value == 0.0
    assert not stolen.worth.flags


def test_too_many_representers_are_searched_and_flagged(digits):
    x, y = digits
    features = np.exp(-0.01 * ((x[:300, None] - x[:100]) ** 2).sum(-1))
    fitted = LogisticRegression(max_iter=2000).fit(features, y[:300])
    victim = TorchModel(KernelNet(x[:100], fitted.coef_, fitted.intercept_, 0.01), (64,), 10)
    thief = KernelLeakage(representers=4, queries=200, starts=1, iterations=30)
    stolen = thief.run(victim, domain=Domain.box(64))
    assert set(stolen.worth.flags) == {"searched", "not verified"}
    assert stolen.found.parameters["representers"].shape == (4, 64)


def test_inverting_the_copy_shows_what_inverting_the_victim_would(digits):
    x, y = digits
    victim = LogisticRegression(max_iter=1000).fit(x[:1257], y[:1257])
    stolen = Inversion(steps=500).run(SklearnModel(victim), domain=Domain.box(64))
    assert stolen.record.cost.queries <= 70
    images, confidence = invert(differentiable(victim), Domain.box(64), 10, steps=500)
    assert np.abs(stolen.found.parameters["images"] - images).max() < 1e-6
    assert (victim.predict(images) == np.arange(10)).all()
    assert np.allclose(stolen.worth.details["confidence"], confidence)


def test_inversion_needs_a_gradient_and_another_attack():
    with pytest.raises(InvalidInput, match="no gradient"):
        differentiable(object())
    with pytest.raises(InvalidInput, match="another attack"):
        Inversion(by="inversion")
    net = TorchModel(nn.Linear(3, 2).double(), (3,), 2)
    with pytest.raises(InvalidInput, match="recovers no model from scores"):
        Inversion(by="label-query").run(net)
