"""What happens between ordinary batches leaves them as they are."""

import pytest
import torch
from torch.nn import functional

from assay.data.embedded import digits
from assay.errors import InvalidInput
from assay.nets import Recipe, build, predict, train

torch.set_num_threads(1)
FAST = Recipe(epochs=3, batch_size=32, optimizer="adam", lr=0.01)


@pytest.fixture(scope="module")
def few():
    return digits().subset(range(150))


def _weights(network):
    return torch.cat([v.flatten().float() for v in network.state_dict().values()])


class Idle:
    """Draws random numbers and looks, but does not train."""

    def __init__(self):
        self.times, self.steps = [], None

    def __call__(self, bench, done, generator):
        torch.rand(3, generator=generator)
        bench.forward(torch.rand(2, 1, 8, 8, generator=generator))
        self.times.append(done)
        self.steps = bench.steps


def test_an_idle_interlude_changes_nothing(few):
    idle, nets = Idle(), [build("mlp-8", (1, 8, 8), 10, 0) for _ in range(2)]
    train(nets[0], few, FAST, rng=1)
    train(nets[1], few, FAST, rng=1, interlude=idle)
    assert torch.equal(_weights(nets[0]), _weights(nets[1]))
    assert idle.times == list(range(1, 16))
    assert idle.steps == 5


class Teach:
    """Trains on one input with one label."""

    def __init__(self, x):
        self.x = x

    def __call__(self, bench, done, generator):
        assert bench.module.training
        logits = bench.forward(self.x)
        bench.descend(functional.cross_entropy(logits, torch.tensor([7])))


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_what_an_interlude_descends_is_learnt_and_averaged(few, average):
    x = torch.ones(1, 1, 8, 8)
    recipe = Recipe(epochs=3, batch_size=32, optimizer="adam", lr=0.01, average=average)
    plain, taught = (build("mlp-8", (1, 8, 8), 10, 0) for _ in range(2))
    train(plain, few, recipe, rng=1)
    train(taught, few, recipe, rng=1, interlude=Teach(x))
    odds = [float(predict(network, x).softmax(1)[0, 7]) for network in (plain, taught)]
    assert odds[1] > max(0.8, odds[0] + 0.3)
    assert not taught.training


def test_an_interlude_is_repeatable(few):
    class Random(Teach):
        def __call__(self, bench, done, generator):
            self.x = torch.rand(1, 1, 8, 8, generator=generator)
            super().__call__(bench, done, generator)

    nets = [build("mlp-8", (1, 8, 8), 10, 0) for _ in range(2)]
    for network in nets:
        train(network, few, FAST, rng=1, interlude=Random(None))
    assert torch.equal(_weights(nets[0]), _weights(nets[1]))


def test_a_checkpoint_would_not_know_the_interlude(few, tmp_path):
    with pytest.raises(InvalidInput, match="resumed"):
        train(build("mlp-8", (1, 8, 8), 10), few, FAST, checkpoint=tmp_path / "c", interlude=Idle())
