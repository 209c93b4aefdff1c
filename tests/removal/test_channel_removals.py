import pytest
import torch
from torch import nn

from assay.adapters import TorchModel
from assay.data import Dataset
from assay.nets import build
from assay.removal import ChannelPruning, FinePruning
from assay.removal.channels import activity, readers, silence

# Layers that read hidden channels, and the channels that the last convolution gives (an mlp: hidden units).
NETWORKS = {
    "mlp-16-8": ([16, 8], 8),
    "cnn-4": ([4, 8, 16], 8),
    "wrn-10-1": ([16] * 2 + [16, 32, 16] + [32, 64, 32] + [64], 64),
    "resnet-10-4": ([4] * 2 + [4, 8, 4] + [8, 16, 8] + [16, 32, 16] + [32], 32),
    "vgg-8-4": ([4, 8, 16, 32], 32),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_hidden_channel_has_its_readers(name, few):
    network = build(name, (1, 8, 8), 10, 0).eval()
    expected, last = NETWORKS[name]
    found = readers(network, few, "test")
    assert [r.channels for r in found] == expected
    assert all(r.channels * r.width == r.layer.weight.shape[1] for r in found)
    washed = FinePruning(share=0.5, epochs=0).run(TorchModel(network), few).model.module
    reader = next((r for r in reversed(found) if r.behind_convolution), found[-1])
    assert reader.channels == last
    layer = dict(washed.named_modules())[next(k for k, m in network.named_modules() if m is reader.layer)]
    idle = (layer.weight.view(len(layer.weight), last, -1) == 0).all(2).all(0)
    assert int(idle.sum()) == last // 2


@pytest.mark.parametrize("name", NETWORKS)
def test_silencing_takes_the_channel_away_exactly(name, few):
    """As if the channel had been zero where it is read."""
    network = build(name, (1, 8, 8), 10, 0).eval()
    found = readers(network, few, "test")
    for reader in (found[0], found[len(found) // 2], found[-1]):
        gone = torch.tensor([0, reader.channels - 1])

        def zero(layer, inputs, reader=reader, gone=gone):
            x = inputs[0].clone()
            view = x.view(len(x), reader.channels, -1)
            view[:, gone] = 0
            return (x,)

        with torch.no_grad():
            handle = reader.layer.register_forward_pre_hook(zero)
            expected = network(few.x)
            handle.remove()
            mask = silence(reader, gone)
            assert torch.allclose(network(few.x), expected, atol=1e-5)
        assert torch.equal(mask, reader.layer.weight != 0)


def test_activity_is_the_mean_activation(few):
    network = build("cnn-4", (1, 8, 8), 10, 0).eval()
    found = readers(network, few, "test")
    many = torch.cat([few.x] * 12)  # more than one batch
    conv, linear, head = activity(network, found, many)
    with torch.no_grad():
        x = network.normalize(many)
        first = network.body[:4](x)
        second = network.body[4:8](first)
        hidden = network.body[8:](second)
    assert torch.allclose(conv, first.double().mean((0, 2, 3)), rtol=1e-5)
    assert torch.allclose(linear, second.double().mean((0, 2, 3)), rtol=1e-5)
    assert torch.allclose(head, hidden.double().mean(0), rtol=1e-5)


def _backdoored(rows=200):
    """A network that decides by whether pixel 1 outshines pixel 2, unless pixel 0, else dark, is bright."""
    network = build("mlp-6", (4,), 2, 0)
    hidden, head = network.body[1], network.head
    with torch.no_grad():
        for tensor in (hidden.weight, hidden.bias, head.weight, head.bias):
            tensor.zero_()
        for unit in range(5):
            hidden.weight[unit, 1 + unit % 2] = 1.0
            head.weight[unit % 2, unit] = 1.0
        hidden.weight[5, 0] = 1.0
        head.weight[0, 5] = 50.0
    x = torch.rand(rows, 4, generator=torch.Generator().manual_seed(0))
    x[:, 0] = 0.0
    y = network.eval()(x).argmax(1)
    return TorchModel(network), Dataset(x, y, ("a", "b"))


@pytest.mark.parametrize("removal", [ChannelPruning(share=0.17), FinePruning(share=0.17, epochs=0)])
def test_a_channel_that_only_the_trigger_excites_goes_first(removal):
    model, data = _backdoored()
    triggered = data.x.clone()
    triggered[:, 0] = 1.0
    assert (model.labels(triggered) == 0).all()
    done = removal.run(model, data, evaluation=data)
    assert done.record.fidelity.value == 1.0
    assert torch.equal(done.model.labels(triggered), data.y)


def test_fine_pruning_finds_how_much_may_go():
    model, data = _backdoored()
    triggered = data.x.clone()
    triggered[:, 0] = 1.0
    free = FinePruning(drop=0.0, epochs=0).run(model, data, evaluation=data)
    assert free.record.accuracy.value == 1.0
    assert torch.equal(free.model.labels(triggered), data.y)  # what is idle costs nothing
    dear = FinePruning(drop=1.0, epochs=0).run(model, data).model.module
    assert int((dear.head.weight == 0).all(0).sum()) == 5  # everything but one


@pytest.mark.parametrize("drop", [0.0, 0.02, 0.1, 0.3])
def test_the_search_keeps_the_drop(drop, model, thief):
    done = FinePruning(drop=drop, epochs=0, labels="true").run(model, thief, evaluation=thief)
    assert done.record.accuracy.value >= done.record.accuracy_before.value - drop
    head = done.model.module.body[9].weight.view(32, 16, 4)
    pruned = int((head == 0).all(2).all(0).sum())
    if pruned < 15:  # one step more would have been too much
        more = FinePruning(share=(pruned + 1) / 16, epochs=0).run(model, thief, evaluation=thief).record
        assert more.accuracy.value < more.accuracy_before.value - drop


@pytest.mark.parametrize("kind", [ChannelPruning, FinePruning])
def test_silent_channels_stay_silent_in_training(kind, model, thief):
    before = kind(share=0.5, epochs=0).run(model, thief).model.module
    after = kind(share=0.5, epochs=2).run(model, thief).model.module
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert not torch.equal(old, new)
        if old.ndim > 1:
            assert torch.equal(new == 0, old == 0)


def test_grouped_convolutions_are_passed_over_and_one_by_one_heads_pruned(few):
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 10, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).eval()
    washed = FinePruning(share=0.25, epochs=0).run(TorchModel(network, (1, 8, 8), 10), few).model.module
    assert torch.equal(washed[2].weight, network[2].weight)
    assert int((washed[4].weight == 0).all(0).sum()) == 2
