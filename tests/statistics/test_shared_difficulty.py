"""Why one row must be one image: a tensor layout that accuses everybody.

Images differ in how hard they are, and every model feels it. No membership signal exists
here at all. Transposing all axes of ``[images, walks, norms]`` before flattening makes each
row a block of 30 consecutive images, so the evaluation rows hold the images of the training
rows again, and a scorer recognises the blocks for any suspect.
"""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from assay.statistics import (
    harmonic_mean_aggregate,
    permutation_test,
    uniformity,
    welch_p_values,
)

IMAGES, WALKS, NORMS = 1000, 10, 3
REPEATS = 12


def one_row_per_image(features):
    return features.reshape(len(features), -1)


def all_axes_reversed(features):
    return features.T.reshape(len(features), -1)


def verify(layout, seed):
    """Fit on the victim's first half, score victim and unrelated suspect on the second half."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=(2, IMAGES, 1, 1))
    noise = rng.normal(size=(2, 2, IMAGES, WALKS, NORMS))
    models = np.exp(0.6 * difficulty + 0.4 * noise)
    centre, spread = models[0, 0].mean(axis=(0, 1)), models[0, 0].std(axis=(0, 1), ddof=1)
    rows = np.array([[layout((side - centre) / spread) for side in model] for model in models])
    half = IMAGES // 2
    scorer = LogisticRegression(max_iter=300).fit(
        np.concatenate([rows[0, 0, :half], rows[0, 1, :half]]), np.repeat([1, 0], half)
    )
    out = {}
    for name, model in zip(("victim", "unrelated"), rows, strict=True):
        private, control = (np.tanh(scorer.decision_function(side[half:])) for side in model)
        draws = np.array([rng.choice(half, size=10, replace=False) for _ in range(100)])
        out[name] = {
            "p": permutation_test(private, control, resamples=999, rng=rng).p_value,
            "published": float(harmonic_mean_aggregate(welch_p_values(private[draws], control[draws]))),
            "gap": private.mean() - control.mean(),
        }
    return out


@pytest.fixture(scope="module")
def honest():
    return [verify(one_row_per_image, seed) for seed in range(REPEATS)]


@pytest.fixture(scope="module")
def scrambled():
    return [verify(all_axes_reversed, seed) for seed in range(REPEATS)]


@pytest.mark.parametrize("model", ["victim", "unrelated"])
def test_one_row_per_image_accuses_nobody(honest, model):
    p = [run[model]["p"] for run in honest]
    assert uniformity(p).p_value > 1e-2
    assert np.median([run[model]["published"] for run in honest]) > 0.05
    assert abs(np.mean([run[model]["gap"] for run in honest])) < 0.03


@pytest.mark.parametrize("model", ["victim", "unrelated"])
def test_reversed_axes_accuse_everybody(scrambled, model):
    assert all(run[model]["p"] == 0.001 for run in scrambled)
    assert np.median([run[model]["gap"] for run in scrambled]) > 0.2
    assert uniformity([run[model]["published"] for run in scrambled]).p_value < 1e-3


def test_the_layout_keeps_images_apart():
    features = np.broadcast_to(np.arange(50.0)[:, None, None], (50, WALKS, NORMS))
    assert np.all(one_row_per_image(features) == np.arange(50.0)[:, None])
    assert not np.all(all_axes_reversed(features) == np.arange(50.0)[:, None])
