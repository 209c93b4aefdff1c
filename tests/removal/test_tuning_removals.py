import dataclasses

import pytest
import torch
from torch import nn

from assay.adapters import TorchModel
from assay.nets import Recipe, build, predict, train
from assay.removal import Distillation, FineTuning, ReInitialisedHead
from assay.removal.layers import redraw

ADAM = Recipe(epochs=15, batch_size=32, optimizer="adam", lr=0.01)


def _changed(before, after):
    old, new = before.module.state_dict(), after.module.state_dict()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_the_last_layer_alone_is_trained(model, thief):
    for removal in (
        FineTuning(layers="last", labels="true", epochs=1),
        ReInitialisedHead(layers="last", epochs=1),
    ):
        washed = removal.run(model, thief).model
        assert _changed(model, washed) == {"head.weight", "head.bias"}
        assert all(p.requires_grad and p.grad is None for p in washed.module.parameters())


def test_all_layers_are_trained_but_the_normalisation_of_inputs(model, thief):
    for removal in (FineTuning(epochs=1), ReInitialisedHead(epochs=1)):
        washed = removal.run(model, thief).model
        still = set(model.module.state_dict()) - _changed(model, washed)
        assert still == {"normalize.mean", "normalize.std"}


def test_tuning_is_training_with_the_stated_recipe(model, thief):
    """Written out: the copy's own labels, a cosine from lr to 0, nothing else."""
    network = build("cnn-8", (1, 8, 8), 10, 0)
    network.load_state_dict(model.module.state_dict())
    recipe = Recipe(epochs=2, batch_size=50, lr=0.03, schedule="cosine", label_smoothing=0.2)
    targets = predict(network, thief.x).argmax(1)
    train(network, thief, recipe, targets=targets, fit_normalization=False, rng=6)
    numbers = {"epochs": 2, "batch_size": 50, "lr": 0.03, "smoothing": 0.2}
    assert FineTuning(**numbers).run(model, thief, rng=6).model.digest == TorchModel(network).digest
    assert FineTuning(training=recipe).run(model, thief, rng=6).model.digest == TorchModel(network).digest


def test_own_labels_keep_what_the_copy_believes_and_true_labels_do_not(digits, thief, held_out):
    """A copy that takes every 1 for a 7 goes on doing so unless the truth is shown to it."""
    believed = torch.where(digits.y == 1, 7, digits.y)
    network = build("mlp-32", (1, 8, 8), 10, 0)
    own = digits.relabelled(believed).subset(range(600))
    train(network, own, ADAM, rng=0)
    ones = held_out.subset(held_out.y == 1)
    numbers = {"lr": 0.1, "epochs": 10}
    for removal, low, high in [
        (FineTuning(labels="model", **numbers), 0.0, 0.0),
        (FineTuning(labels="true", **numbers), 0.9, 1.0),
        (ReInitialisedHead(labels="model", **numbers), 0.0, 0.0),
        (ReInitialisedHead(labels="true", **numbers), 0.9, 1.0),
        (Distillation(epochs=10), 0.0, 0.0),
    ]:
        record = removal.run(TorchModel(network), thief, evaluation=ones).record
        assert record.accuracy_before.value == 0.0
        assert low <= record.accuracy.value <= high


def test_a_large_rate_moves_the_copy_further(model, thief):
    def moved(removal):
        washed = removal.run(model, thief).model.module
        pairs = zip(model.module.parameters(), washed.parameters(), strict=True)
        return sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5

    assert moved(FineTuning(epochs=2, lr=0.1)) > 3 * moved(FineTuning(epochs=2, lr=0.001))


def test_a_fresh_head_knows_nothing_of_the_old_one(model, thief):
    removal = ReInitialisedHead(layers="last", epochs=1, lr=1e-12)
    heads = [removal.run(model, thief, rng=seed).model.module.head.weight.detach() for seed in (0, 1)]
    for head in (*heads, heads[1] - heads[0]):
        similarity = torch.corrcoef(
            torch.stack([head.flatten(), model.module.head.weight.detach().flatten()])
        )
        assert abs(float(similarity[0, 1])) < 0.2
    assert float(heads[0].abs().max()) <= 32**-0.5


def test_distillation_keeps_no_weight_and_may_change_the_architecture(model, thief, held_out):
    same = Distillation(epochs=1).run(model, thief).model
    assert same.module.architecture == "cnn-8"
    assert all(
        n.endswith("num_batches_tracked") for n in set(same.module.state_dict()) - _changed(model, same)
    )
    other = Distillation(architecture="mlp-32", epochs=20).run(model, thief, evaluation=held_out)
    assert other.model.module.architecture == "mlp-32"
    assert other.record.fidelity.value > 0.85


def test_temperature_is_the_division_of_both_logits(digits, thief):
    """The washed network, its logits divided, answers the copy's divided logits."""
    network = build("mlp-32", (1, 8, 8), 10, 0)
    train(network, digits.subset(range(600)), ADAM, rng=0)
    washed = Distillation(temperature=4.0, training=ADAM).run(TorchModel(network), thief).model.module
    with torch.no_grad():
        ours, theirs = (m(thief.x).div(4).softmax(1) for m in (washed, network))
        distance = (ours - theirs).abs().sum(1).mean() / 2
        undivided = (washed(thief.x).div(16).softmax(1) - theirs).abs().sum(1).mean() / 2
    assert float(distance) < 0.05 < float(undivided)


def test_redraw_draws_every_layer_or_says_that_it_cannot(foreign):
    before = {k: v.clone() for k, v in foreign.module.state_dict().items()}
    state = torch.get_rng_state()
    assert redraw(foreign.module, 1)
    assert torch.equal(torch.get_rng_state(), state)
    after = foreign.module.state_dict()
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["5.bias"], after["5.bias"])
    attention = nn.MultiheadAttention(4, 2)
    old = attention.in_proj_weight.detach().clone()
    assert not redraw(attention, 1)
    assert torch.equal(attention.in_proj_weight, old)


def test_half_precision_and_frozen_copies_can_be_washed(model, few):
    network = model.module.bfloat16().requires_grad_(requires_grad=False)
    half = TorchModel(network)
    done = FineTuning(epochs=1).run(half, few, evaluation=few)
    assert {p.dtype for p in done.model.module.parameters()} == {torch.float32}
    assert done.record.model == half.digest
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("removal", [FineTuning(), ReInitialisedHead(), Distillation()])
def test_a_whole_recipe_replaces_the_numbers(removal, model, thief):
    recipe = Recipe(epochs=1, optimizer="adam", lr=1e-3, schedule="constant")
    whole = dataclasses.replace(removal, training=recipe)
    assert whole.recipe == recipe
    assert whole.run(model, thief).record.parameters["training"]["optimizer"] == "adam"
