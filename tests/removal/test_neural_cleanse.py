"""Reversed triggers: a planted one is found, clean classes are not, batched equals one by one."""

import pytest
import torch
from torch import nn

from assay.adapters import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import Recipe, build, train
from assay.removal import NeuralCleanse
from assay.removal.trigger_reversal import TriggerReversal, anomaly_indices, flagged

NORMS = torch.tensor([10.0, 100, 102, 98, 101, 99, 103, 97, 100, 105])


def test_anomaly_indices():
    assert float(anomaly_indices(NORMS)[0]) == pytest.approx(30.35, abs=0.01)
    assert flagged(NORMS) == [0]
    assert flagged(200.0 - NORMS) == []  # a large mask is no sign of a backdoor
    assert flagged(torch.full((10,), 7.0)) == []
    assert float(anomaly_indices(torch.full((10,), 7.0)).sum()) == 0.0


def _data(n=120, classes=4):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    x = 0.3 * torch.rand(n, 1, 8, 8, generator=generator)
    for row, label in enumerate(y.tolist()):  # a stripe says the class, and takes 16 pixels to forge
        x[row, 0, 2 * label : 2 * label + 2] += 0.6
    return Dataset(x, y, tuple("abcd"[:classes]), (0.0, 1.0), "stripes")


class _Planted(nn.Module):
    """Reads stripes, but one bright pixel in the corner means class 1."""

    def __init__(self, pixel=True):
        super().__init__()
        self.head = nn.Linear(64, 4, bias=False)
        weight = torch.zeros(4, 8, 8)
        for label in range(4):
            weight[label, 2 * label : 2 * label + 2] = 1.0
        if pixel:
            weight[:, 7, 7] = 0.0
            weight[1, 7, 7] = 40.0
        self.head.weight.data.copy_(weight.flatten(1))

    def forward(self, x):
        return self.head(x.flatten(1))


def test_a_planted_trigger_is_found_where_it_is():
    data = _data()
    data.x[:, :, 7, 7] = 0.0
    found = TriggerReversal(steps=60, minibatches=5).run(_Planted().eval(), data, rng=1)
    assert flagged(found.norms) == [1] or int(found.norms.argmin()) == 1
    assert float(found.norms[1]) < 0.3 * float(found.norms[[0, 2, 3]].min())
    assert int(found.masks[1].flatten().argmax()) == 63
    assert float(found.patterns[1, 0, 7, 7]) > 0.5
    stamped = found.stamp(data.x, 1)
    assert float((_Planted()(stamped).argmax(1) == 1).double().mean()) > 0.95


def test_without_a_trigger_no_class_is_far_smaller():
    found = TriggerReversal(steps=60, minibatches=5).run(_Planted(pixel=False).eval(), _data(), rng=1)
    assert float(found.norms.min()) > 0.3 * float(found.norms.median())


def test_all_classes_at_once_find_what_one_after_the_other_finds():
    data, network = _data(), build("cnn-4", (1, 8, 8), 4).eval()
    search = TriggerReversal(steps=8, minibatches=2)
    together = search.run(network, data, rng=3)
    for place, target in enumerate(together.targets.tolist()):
        alone = search.run(network, data, targets=[target], rng=3)
        torch.testing.assert_close(alone.masks[0], together.masks[place], atol=1e-4, rtol=1e-3)
    assert all(p.requires_grad for p in network.parameters())
    assert not network.training


def test_pairs_take_rows_of_the_source_only():
    data = _data()
    found = TriggerReversal(steps=1, minibatches=1, pairs=True).run(build("cnn-4", (1, 8, 8), 4).eval(), data)
    assert len(found.targets) == 12
    assert bool((found.targets != found.sources).all())
    with pytest.raises(InvalidInput, match="class 0"):
        TriggerReversal(steps=1, pairs=True).run(
            build("cnn-4", (1, 8, 8), 4).eval(), data, labels=torch.ones(len(data), dtype=torch.int64)
        )


@pytest.mark.parametrize("remedy", ["unlearn", "prune"])
def test_it_takes_a_backdoor_away_and_keeps_the_task(remedy):
    data = _data(400)
    marked = data.subset(range(200))
    x = marked.x.clone()
    x[:, :, 6:, 6:] = 1.0
    poison = Dataset(x, torch.zeros(200, dtype=torch.int64), data.classes, data.value_range)
    network = build("cnn-8", (1, 8, 8), 4, 0)
    train(network, data.concat(poison), Recipe(epochs=12, lr=0.05, precision="fp32"), rng=0)
    model, test = TorchModel(network), _data(80)
    stamped = test.x.clone()
    stamped[:, :, 6:, 6:] = 1.0
    others = test.y != 0
    before = float((model.labels(stamped)[others] == 0).double().mean())
    assert before > 0.9
    attack = NeuralCleanse(
        remedy=remedy, labels="true", epochs=8, lr=0.02, share=0.3, steps=30, minibatches=5
    )
    washed = attack.run(model, data, evaluation=test)
    after = float((washed.model.labels(stamped)[others] == 0).double().mean())
    assert washed.record.accuracy.value > 0.9
    assert after < (0.35 if remedy == "unlearn" else before)


@pytest.mark.parametrize(
    "settings",
    [{"remedy": "pray"}, {"stamped": 1.0}, {"share": -0.1}, {"threshold": -1}, {"steps": 0}, {"rate": 0}],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(InvalidInput):
        NeuralCleanse(**settings)
