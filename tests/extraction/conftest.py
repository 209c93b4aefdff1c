import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from assay.data.dataset import Dataset
from assay.nets import Recipe, build, train
from assay.testing import SpyModel


@pytest.fixture(scope="session")
def digits():
    torch.set_num_threads(1)
    data = load_digits()
    order = np.random.default_rng(1).permutation(len(data.target))
    images = (data.images[order] / 16).astype(np.float32)[:, None]
    return Dataset.from_arrays(images, data.target[order], name="digits")


@pytest.fixture(scope="session")
def private(digits):
    return digits.subset(range(500), "private")


@pytest.fixture(scope="session")
def pool(digits):
    return digits.subset(range(500, 1100), "pool")


@pytest.fixture(scope="session")
def held_out(digits):
    return digits.subset(range(1100, 1700), "held out")


@pytest.fixture(scope="session")
def victim_weights(private):
    network = build("cnn-8", private.input_shape, 10, 0)
    train(network, private, Recipe(epochs=10, batch_size=32), rng=0)
    return network.state_dict()


@pytest.fixture
def victim(private, victim_weights):
    network = build("cnn-8", private.input_shape, 10, 0)
    network.load_state_dict(victim_weights)
    return SpyModel(network.eval(), private.input_shape, 10)
