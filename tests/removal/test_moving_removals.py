"""Attacks that move inputs or labels: boxes, shares, order, and what they do to a backdoor."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from assay.adapters import TorchModel
from assay.data.dataset import Dataset
from assay.data.embedded import digits
from assay.errors import InvalidInput, UnknownName
from assay.nets import Recipe, build, train
from assay.registry import create
from assay.removal import AdversarialTraining, LabelNoising, Stacked, WrongRelabelling
from assay.removal.adversarial_inputs import limits, move
from assay.removal.layers import copied, last_layer


def _data(n=40):
    generator = torch.Generator().manual_seed(0)
    return Dataset(
        torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 3, ("a", "b", "c"), (0.0, 1.0)
    )


@pytest.fixture
def network():
    return build("cnn-4", (1, 8, 8), 3, 0).eval()


@pytest.mark.parametrize("towards", [False, True])
def test_moved_inputs_stay_in_their_boxes_and_change_the_loss(network, towards):
    data = _data()
    moved = move(network, data.x, data.y, epsilon=0.1, step=0.03, steps=6, box=(0.0, 1.0), towards=towards)
    assert float((moved - data.x).abs().max()) <= 0.1 + 1e-6
    assert 0.0 <= float(moved.min()) <= float(moved.max()) <= 1.0
    before = functional.cross_entropy(network(data.x), data.y)
    after = functional.cross_entropy(network(moved), data.y)
    assert bool(after < before) == towards
    assert all(p.grad is None for p in network.parameters())


def test_one_step_is_the_sign_of_the_gradient():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    moved = move(
        layer, torch.full((1, 2), 0.5), torch.tensor([0]), epsilon=0.1, step=0.1, steps=1, box=(0.0, 1.0)
    )
    torch.testing.assert_close(moved, torch.tensor([[0.4, 0.6]]))


def test_limits_of_tables_are_those_of_the_rows():
    unbounded = (-math.inf, math.inf)
    table = Dataset(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([0, 1]), ("a", "b"), unbounded)
    assert limits(table) == (-2.0, 4.0)
    assert limits(_data()) == (0.0, 1.0)


def test_label_noise_permutes_the_stated_share():
    targets = torch.arange(100)
    noisy = LabelNoising(share=0.3).noisy(targets, 0)
    assert sorted(noisy.tolist()) == targets.tolist()
    assert 20 <= int((noisy != targets).sum()) <= 30
    assert torch.equal(LabelNoising(share=0.0).noisy(targets, 0), targets)


def test_wrong_labels_are_wrong_and_the_head_leaves_its_place(network):
    data = _data()
    attack = WrongRelabelling(inputs=20)
    given = network(data.x).argmax(1)
    relabelled, labels = attack._wrong(network, data, given, 0)
    assert len(relabelled) == len(labels) == 20
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:20]
    assert bool((labels != given[chosen]).all())
    old = last_layer(network, data, "test").weight.detach().clone()

    def alignment(repulsion):
        washed = WrongRelabelling(epochs=4, lr=0.05, repulsion=repulsion).run(
            TorchModel(network), data, rng=1
        )
        return float((last_layer(washed.model.module, data, "test").weight.detach() * old).sum())

    assert alignment(1.0) < alignment(0.0)


def test_adversarial_training_makes_moved_inputs_less_harmful():
    data = digits().subset(range(500))
    network = build("cnn-4", (1, 8, 8), 10, 0)
    train(network, data, Recipe(epochs=8, lr=0.05, precision="fp32"))

    def loss(model):
        moved = move(model, data.x, data.y, epsilon=0.1, step=0.05, steps=4, box=(0.0, 1.0))
        return float(functional.cross_entropy(model(moved), data.y).detach())

    before = loss(network)
    attack = AdversarialTraining(epochs=4, labels="true", epsilon=0.1, step=0.05, moves=4, lr=0.03)
    washed = attack.run(TorchModel(network), data, evaluation=data)
    assert loss(washed.model.module) < 0.8 * before
    assert washed.record.accuracy.value > 0.85


def test_a_stack_is_its_attacks_in_turn(network):
    stack = Stacked(attacks="weight-noise:noise=0.1; weight-quantisation:bits=5,epochs=0")
    assert [step.name for step in stack.steps] == ["weight-noise", "weight-quantisation"]
    washed = stack.wash(network, None, rng=5)
    by_hand = copied(network, "test")
    for place, (name, options) in enumerate(
        [("weight-noise", {"noise": 0.1}), ("weight-quantisation", {"bits": 5, "epochs": 0})]
    ):
        by_hand = create(name, "removal", options).wash(by_hand, None, rng=5 + place)
    for left, right in zip(washed.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(left, right)
    assert Stacked(attacks="fine-tuning").needs_data
    assert not stack.needs_data


@pytest.mark.parametrize(
    ("attacks", "error"),
    [
        ("", InvalidInput),
        (" ; ", InvalidInput),
        ("fine-tunning", UnknownName),
        ("fine-tuning:epochs", InvalidInput),
        ("fine-tuning:epochs=0", InvalidInput),
        ("stacked:attacks=fine-tuning", InvalidInput),
    ],
)
def test_bad_stacks_are_refused_when_they_are_written(attacks, error):
    with pytest.raises(error):
        Stacked(attacks=attacks)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (AdversarialTraining, {"epsilon": 0.0}),
        (AdversarialTraining, {"moves": 0}),
        (AdversarialTraining, {"inputs": 0}),
        (LabelNoising, {"share": 1.0}),
        (WrongRelabelling, {"repulsion": -1.0}),
        (WrongRelabelling, {"inputs": 0}),
    ],
)
def test_bad_settings_are_refused(kind, settings):
    with pytest.raises(InvalidInput):
        kind(**settings)
