import numpy as np
import pytest
import torch
from torch import nn

from assay.errors import InvalidInput, UnknownName
from assay.nets import Network, Normalize, build
from assay.registry import registered

CIFAR = (3, 32, 32)


def _count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "features", "features_width"),
    [
        ("mlp", (4,), None, 128),
        ("mlp-8", (4,), None, 8),
        ("mlp-8-6-4", (1, 8, 8), None, 4),
        ("cnn-8", (1, 8, 8), None, 32),
        ("cnn", (1, 28, 28), None, 128),
        ("vgg-8-4", (1, 8, 8), None, 32),
        ("vgg-11-4", CIFAR, None, 32),
        ("vgg-13-4", CIFAR, None, 32),
        ("vgg-16-4", CIFAR, None, 32),
        ("wrn-10-1", (1, 8, 8), None, 64),
        ("wrn-16-2-30", CIFAR, None, 128),
        ("resnet-10-4", (1, 8, 8), None, 32),
        ("resnet-18-4", CIFAR, None, 32),
    ],
)
def test_shapes_and_names(name, shape, features, features_width):
    network = build(name, shape, 7).eval()
    x = torch.rand(2, *shape)
    assert network(x).shape == (2, 7)
    assert network.embed(x).shape == (2, features_width)
    assert torch.allclose(network.head(network.embed(x)), network(x))
    # The name rebuilds the same network.
    again = build(network.architecture, shape, 7).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("wrn-16-1", CIFAR, 175_000),
        ("wrn-16-2", CIFAR, 691_700),
        ("wrn-28-10", CIFAR, 36.48e6),
        ("resnet-18", CIFAR, 11.17e6),
        ("vgg-16", CIFAR, 14.72e6),
    ],
)
def test_parameter_counts_are_the_published_ones(name, shape, expected):
    assert _count(build(name, shape, 10)) == pytest.approx(expected, rel=0.005)


def test_parameter_counts_by_hand():
    assert _count(build("mlp-8", (4,), 3)) == 4 * 8 + 8 + 8 * 3 + 3
    body = 1 * 8 * 9 + 2 * 8 + 8 * 16 * 9 + 2 * 16 + (16 * 2 * 2 * 32 + 32)
    assert _count(build("cnn-8", (1, 8, 8), 10)) == body + 32 * 10 + 10


def test_dropout_is_there_only_when_asked_for():
    def rates(name):
        return [m.p for m in build(name, CIFAR, 10).modules() if isinstance(m, nn.Dropout)]

    assert rates("wrn-16-1") == []
    assert rates("wrn-16-1-30") == [0.3] * 6


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    one, two, other = (build("cnn-4", (1, 8, 8), 3, rng) for rng in (5, 5, 6))
    pairs = list(zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.head.weight, other.head.weight)
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(build("cnn-4", (1, 8, 8), 3, generator).head.weight, one.head.weight)


def test_building_leaves_global_random_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    build("wrn-10-1-50", (1, 8, 8), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_hidden_layers_start_he_normal_and_biases_at_zero():
    network = build("vgg-11", CIFAR, 10)
    conv = [m for m in network.modules() if isinstance(m, nn.Conv2d)][-1]
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (conv.out_channels * 9)) ** 0.5, rel=0.02)
    assert float(network.head.bias.detach().abs().max()) == 0
    assert float(network.head.weight.detach().abs().max()) <= network.head.in_features**-0.5


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("wrn-15-1", CIFAR),
        ("wrn-4", CIFAR),
        ("resnet-50", CIFAR),
        ("vgg-9", CIFAR),
        ("mlp-0", (4,)),
        ("mlp-x", (4,)),
        ("mlp--3", (4,)),
        ("cnn-8", (4,)),
        ("cnn-8", (1, 2, 2)),
        ("resnet-18-8-9", CIFAR),
    ],
)
def test_impossible_architectures_are_refused_with_a_sentence(name, shape):
    with pytest.raises(InvalidInput):
        build(name, shape, 10)


def test_unknown_architectures_and_too_few_classes_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'resnet'"):
        build("resnt-18", CIFAR, 10)
    with pytest.raises(InvalidInput, match="at least 2 classes"):
        build("mlp-4", (4,), 1)


def test_every_architecture_is_registered_with_a_summary():
    entries = {e.name: e.summary for e in registered("architecture")}
    assert {"mlp", "cnn", "vgg", "wrn", "resnet"} <= set(entries)
    assert all(entries.values())


def test_normalisation_is_per_channel_and_survives_constant_columns():
    x = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (50, 2, 4, 4)).astype("float32"))
    x[:, 1] = 7.0
    layer = Normalize(2)
    layer.fit(x)
    out = layer(x)
    assert float(out[:, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(out[:, 0].std()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(out[:, 1], torch.zeros(50, 4, 4))
    table = Normalize(3)
    table.fit(torch.rand(1, 3))  # a single row has no spread
    assert bool(torch.isfinite(table(torch.rand(2, 3))).all())


def test_normalisation_is_state_but_not_trained():
    network = build("mlp-4", (3,), 2)
    assert isinstance(network, Network)
    assert "normalize.mean" in network.state_dict()
    assert "normalize.mean" not in dict(network.named_parameters())
