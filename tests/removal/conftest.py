import numpy as np
import pytest
import torch
from torch import nn

from assay.adapters import TorchModel
from assay.data import Dataset
from assay.data.embedded import digits as load_digits
from assay.nets import Recipe, build, train


@pytest.fixture(scope="session")
def digits():
    torch.set_num_threads(1)
    data = load_digits()
    return data.subset(np.random.default_rng(1).permutation(len(data)))


@pytest.fixture(scope="session")
def thief(digits):
    """The thief's rows."""
    return digits.subset(range(600, 1000), "thief")


@pytest.fixture(scope="session")
def held_out(digits):
    return digits.subset(range(1100, 1700), "held out")


@pytest.fixture(scope="session")
def copy_weights(digits):
    network = build("cnn-8", (1, 8, 8), 10, 0)
    train(network, digits.subset(range(600)), Recipe(epochs=10, batch_size=32, precision="fp32"), rng=0)
    return network.state_dict()


@pytest.fixture
def model(copy_weights):
    network = build("cnn-8", (1, 8, 8), 10, 0)
    network.load_state_dict(copy_weights)
    return TorchModel(network.eval(), name="copy")


@pytest.fixture
def foreign():
    """A network that is none of ours."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(216, 10),
        )
    return TorchModel(network.eval(), (1, 8, 8), 10, name="foreign")


@pytest.fixture(scope="session")
def few():
    """Two dozen random rows."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(24, 1, 8, 8, generator=generator)
    return Dataset(x, torch.arange(24) % 10, tuple("0123456789"), name="few")
