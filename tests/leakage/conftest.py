import numpy as np
import pytest
import torch

from assay.adapters import TorchModel
from assay.data import load_data
from assay.nets import Recipe, build, train


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    return load_data("digits", split="train").subset(np.arange(600))


@pytest.fixture(scope="session")
def queries():
    return load_data("digits", split="test").x[:120]


@pytest.fixture(scope="session")
def victim(digits):
    net = build("mlp-32", digits.input_shape, 10, 0)
    train(net, digits, Recipe(epochs=15, batch_size=32, optimizer="adam", lr=5e-3, weight_decay=0.0))
    return TorchModel(net, name="victim")


@pytest.fixture(scope="session")
def brief():
    return Recipe(epochs=8, batch_size=16, optimizer="adam", lr=1e-2, weight_decay=0.0)
