import math

import pytest
import torch
from torch import nn

from assay.adapters import TorchModel
from assay.nets import build
from assay.removal import MagnitudePruning, WeightNoise, WeightQuantisation
from assay.removal.layers import weights


def _weights(model):
    return [w.detach() for w in weights(model.module, "test").values()]


def _flat(model):
    return torch.cat([w.flatten() for w in _weights(model)])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.29, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_exactly_the_smallest_share_of_the_weights_is_zero(share, scope, model):
    washed = MagnitudePruning(share=share, scope=scope).run(model).model
    pairs = zip(_weights(model), _weights(washed), strict=True)
    groups = (
        [(_flat(model), _flat(washed))]
        if scope == "global"
        else [(a.flatten(), b.flatten()) for a, b in pairs]
    )
    for before, after in groups:
        zero = after == 0
        assert int(zero.sum()) == min(round(share * len(after)), len(after) - 1)
        assert torch.equal(after[~zero], before[~zero])
        if zero.any():
            assert before[zero].abs().max() <= before[~zero].abs().min()


def test_ties_do_not_change_the_number():
    network = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10))
    for layer in (network[0], network[2]):
        nn.init.constant_(layer.weight, -0.5)
    washed = MagnitudePruning(share=0.37).run(TorchModel(network, (10,), 10)).model
    assert int((_flat(washed) == 0).sum()) == 74


def test_biases_and_normalisation_are_not_pruned_rounded_or_moved(model):
    for removal in (MagnitudePruning(share=0.9), WeightQuantisation(bits=2), WeightNoise(noise=1.0)):
        after = removal.run(model).model.module.state_dict()
        before = model.module.state_dict()
        touched = {name for name, value in before.items() if not torch.equal(value, after[name])}
        assert touched == set(weights(model.module, "test"))


def test_tied_weights_are_pruned_once():
    network = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    network[2].weight = network[0].weight
    washed = MagnitudePruning(share=0.5).run(TorchModel(network, (8,), 8)).model.module
    assert washed[2].weight is washed[0].weight
    assert int((washed[0].weight == 0).sum()) == 32


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pruned_weights_stay_zero_in_training_and_the_rest_learns(optimizer, model, thief):
    from assay.nets import Recipe

    recipe = Recipe(epochs=2, optimizer=optimizer, lr=0.01, weight_decay=0.01, average=0.5)
    before = _flat(MagnitudePruning(share=0.6).run(model).model)
    after = _flat(MagnitudePruning(share=0.6, training=recipe).run(model, thief).model)
    assert torch.equal(after == 0, before == 0)
    assert float((after != before)[before != 0].float().mean()) > 0.99


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_no_weight_moves_by_more_than_half_a_level(bits, model):
    washed = WeightQuantisation(bits=bits).run(model).model
    for before, after in zip(_weights(model), _weights(washed), strict=True):
        level = float(before.abs().max()) / (2 ** (bits - 1) - 1)
        rounding = float(before.abs().max()) * 2**-23  # of float32
        assert float((after - before).abs().max()) <= level / 2 + rounding
        assert len(after.unique()) <= 2**bits - 1
        steps = after / level
        assert torch.allclose(steps, steps.round(), atol=1e-2)
        assert float(after.abs().max()) == pytest.approx(float(before.abs().max()), rel=1e-6)


def test_the_bound_is_reached_somewhere(model):
    washed = WeightQuantisation(bits=3).run(model).model
    before, after = _weights(model)[1], _weights(washed)[1]
    assert float((after - before).abs().max()) > 0.45 * float(before.abs().max()) / 3


def test_rounding_twice_is_rounding_once(model):
    once = WeightQuantisation(bits=4).run(model).model
    twice = WeightQuantisation(bits=4).run(once).model
    assert torch.allclose(_flat(once), _flat(twice), rtol=1e-5, atol=0)


def test_a_trained_quantised_model_is_quantised_and_zero_layers_stay(model, thief):
    washed = WeightQuantisation(bits=3, epochs=1).run(model, thief).model
    assert all(len(w.unique()) <= 7 for w in _weights(washed))
    network = build("mlp-4", (3,), 2)
    nn.init.zeros_(network.head.weight)
    washed = WeightQuantisation().run(TorchModel(network)).model.module
    assert not washed.head.weight.any()


@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0])
def test_noise_has_the_stated_scale_and_shape(noise):
    model = TorchModel(build("mlp-200-100", (100,), 10, 0))
    washed = WeightNoise(noise=noise).run(model, rng=5).model
    for before, after in zip(_weights(model), _weights(washed), strict=True):
        drawn = (after - before).flatten().double() / (noise * float(before.std(correction=0)))
        n = len(drawn)
        assert abs(float(drawn.mean())) < 5 / math.sqrt(n)
        assert abs(float(drawn.var()) - 1) < 5 * math.sqrt(2 / n)
        assert abs(float((drawn**4).mean()) - 3) < 5 * math.sqrt(96 / n)
        correlation = torch.corrcoef(torch.stack([drawn, before.flatten().double()]))[0, 1]
        assert abs(float(correlation)) < 5 / math.sqrt(n)


def test_shifting_takes_the_mean_filter_away(model):
    washed = WeightNoise(noise=0.0, shift=1.0).run(model).model
    for before, after in zip(_weights(model), _weights(washed), strict=True):
        assert torch.allclose(after, before - before.mean(0, keepdim=True), atol=1e-7)
        assert float(after.mean(0).abs().max()) < 1e-6
    assert torch.equal(_flat(WeightNoise(noise=0.0).run(model).model), _flat(model))


def test_much_noise_destroys_the_model(model, held_out):
    assert WeightNoise(noise=5.0).run(model, evaluation=held_out).record.accuracy.value < 0.5
    assert MagnitudePruning(share=0.99).run(model, evaluation=held_out).record.accuracy.value < 0.5
