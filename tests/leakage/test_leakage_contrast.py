"""The contrast between honest and other queries on the 8x8 digits, published figures re-run."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from assay.leakage.logistic import fit_logistic
from assay.leakage.votes import tally
from assay.privacy import RenyiTable, epsilon_each, log_flip_probability

# Ratio of mean costs (sum of epsilons, then the additive Renyi cost at order 2) and area under the ROC.
FIGURES = {
    "noise": (1.50, 6.1, 0.86),
    "inverted": (1.47, 4.8, 0.84),
    "blended": (1.36, 3.4, 0.76),
    "sign noise": (1.01, 1.16, 0.51),
}


@pytest.fixture(scope="module")
def costs():
    bunch = load_digits()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(bunch.data))
    x, y = bunch.data[order] / 16, bunch.target[order]
    rows, honest = x[:1_000], x[1_000:]
    # 50 logistic teachers of 20 samples each on raw pixels, which is a penalty of 1/256 on [0, 1].
    parts = [np.arange(20 * i, 20 * i + 20) for i in range(50)]
    features = torch.from_numpy(16 * rows).float()
    weight, bias = fit_logistic(features, torch.from_numpy(y[:1_000]), parts, 10, l2=1.0, steps=500)

    def log_q(inputs):
        logits = torch.einsum("nd,tdm->nmt", torch.from_numpy(16 * inputs).float(), weight) + bias.T
        return log_flip_probability(tally(logits, soft=False).numpy(), 2.0)

    rng = np.random.default_rng(1)
    pools = {
        "noise": rng.random(honest.shape),
        "inverted": 1 - honest,
        "blended": (honest + honest[rng.permutation(len(honest))]) / 2,
        "sign noise": np.clip(honest + 0.1 * rng.choice([-1, 1], honest.shape), 0, 1),
    }
    return log_q(honest), {name: log_q(pool) for name, pool in pools.items()}


@pytest.mark.parametrize("pool", FIGURES)
def test_contrast(costs, pool):
    honest, pools = costs
    published, additive, area = FIGURES[pool]
    cost = RenyiTable(2.0, 2.0)
    odd = pools[pool]
    single = epsilon_each(odd, 2.0, 1e-5).mean() / epsilon_each(honest, 2.0, 1e-5).mean()
    assert single == pytest.approx(published, rel=0.15)
    assert cost(odd).mean() / cost(honest).mean() == pytest.approx(additive, rel=0.15)
    truth = np.repeat([0, 1], [len(honest), len(odd)])
    assert roc_auc_score(truth, np.concatenate([honest, odd])) == pytest.approx(area, rel=0.15)
