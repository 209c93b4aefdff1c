"""Removals that teach the copy something else: a mark, another task; and those that only move weights."""

import pytest
import torch

from assay.adapters import TorchModel, save_model
from assay.data import Dataset
from assay.errors import InvalidInput
from assay.nets import build
from assay.removal import (
    FeatureShuffling,
    NeuralCleanse,
    Overwriting,
    Regularisation,
    TransferLearning,
)
from assay.removal.transfer_learning import turns


@pytest.mark.parametrize("entanglement", [0.0, 0.3])
def test_the_thiefs_mark_gets_in_and_the_task_stays(entanglement, model, thief, held_out):
    attack = Overwriting(key=3, entanglement=entanglement, lr=0.05)
    done = attack.run(model, thief, evaluation=held_out)
    assert done.record.measured["own_mark"] > 0.9
    assert done.record.accuracy.value > 0.9
    # Nobody else's key finds it, and the copy before did not have it.
    other = Overwriting(key=4).measure(done.model.module, held_out, 0)["own_mark"]
    assert other < 0.5
    assert attack.measure(model.module, held_out, 0)["own_mark"] < 0.5


def test_stamps_are_keyed_and_visible(thief):
    one, same, other = (Overwriting(key=key, marks=3).stamps(thief, 9) for key in (1, 1, 2))
    assert [s.target for s in one] == [s.target for s in same]
    assert len({s.target for s in one}) == 3
    assert all(torch.equal(a.values, b.values) for a, b in zip(one, same, strict=True))
    differ = [
        a.target != b.target or not torch.equal(a.where, b.where) for a, b in zip(one, other, strict=True)
    ]
    assert any(differ)
    for stamp in one:
        assert int(stamp.where.sum()) == 9
        assert 0.4 < float(stamp.values[stamp.where].mean()) < 0.6
        assert torch.equal(stamp.on(thief.x)[:, ~stamp.where], thief.x[:, ~stamp.where])
    unkeyed = [Overwriting().stamps(thief, seed)[0] for seed in (1, 2)]
    assert not torch.equal(unkeyed[0].where, unkeyed[1].where) or unkeyed[0].target != unkeyed[1].target
    with pytest.raises(InvalidInput, match="as many classes"):
        Overwriting(marks=11).stamps(thief, 0)


def test_tables_are_stamped_in_their_columns():
    table = Dataset(
        torch.rand(40, 10) * torch.arange(1, 11), torch.arange(40) % 2, ("a", "b"), (0.0, float("inf"))
    )
    stamp = Overwriting(key=0).stamps(table, 0)[0]
    assert int(stamp.where.sum()) == 2
    assert bool((stamp.values[stamp.where] <= table.x.amax(0)[stamp.where]).all())
    model = TorchModel(build("mlp-4", (10,), 2).eval())
    assert "own_mark" in Overwriting(epochs=1).run(model, table).record.measured


def test_features_go_away_and_come_back(model, thief, held_out):
    own = TransferLearning(lr=0.02, epochs=6).run(model, thief, evaluation=held_out)
    true = TransferLearning(lr=0.02, epochs=6, back="all", labels="true").run(
        model, thief, evaluation=held_out
    )
    assert own.record.accuracy.value > 0.7
    assert true.record.accuracy.value > 0.85
    body, before = own.model.module.body, model.module.body
    assert not torch.equal(body[0].weight, before[0].weight)
    assert torch.equal(own.model.module.normalize.mean, model.module.normalize.mean)
    assert (own.model.module.num_classes, own.model.module.architecture) == (10, "cnn-8")


def test_turned_images_tell_by_how_much(thief):
    found = turns(thief, 2000)
    assert (len(found), found.num_classes) == (1600, 4)
    for quarter in range(4):
        rows = found.x[found.y == quarter][:3]
        back = torch.rot90(rows, -quarter, (2, 3))
        assert all(bool((thief.x == row).flatten(1).all(1).any()) for row in back)
    wide = Dataset(torch.rand(5, 1, 4, 6), torch.zeros(5, dtype=torch.int64), ("a", "b"))
    assert turns(wide, 100).x.shape == (20, 1, 4, 6)
    with pytest.raises(InvalidInput, match="no images"):
        turns(Dataset(torch.rand(5, 3), torch.zeros(5, dtype=torch.int64), ("a", "b")), 10)


def test_a_map_of_classes_brings_them_back_without_training(model, thief, held_out, tmp_path):
    """The related task is the same one with its classes renamed; the map finds the names."""
    names = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    other = thief.subset(range(200))
    Dataset(other.x, names[other.y], other.classes, other.value_range).save(tmp_path / "renamed.npz")
    attack = TransferLearning(task=str(tmp_path / "renamed.npz"), back="map", lr=0.02, epochs=8)
    assert attack.run(model, thief, evaluation=held_out).record.accuracy.value > 0.85
    with pytest.raises(InvalidInput, match="cannot name"):
        TransferLearning(back="map", epochs=1).run(model, thief)


def test_features_from_elsewhere_leave_nothing_of_the_copy(model, digits, thief, held_out, tmp_path):
    other = build("mlp-32", (1, 8, 8), 7, 5).eval()
    save_model(TorchModel(other), tmp_path / "elsewhere.safetensors")
    attack = TransferLearning(
        features=str(tmp_path / "elsewhere.safetensors"), task="none", back="all", epochs=20
    )
    done = attack.run(model, thief, evaluation=held_out)
    assert done.model.module.architecture == "mlp-32"
    assert done.record.accuracy.value > 0.8
    save_model(TorchModel(build("mlp-4", (3,), 7).eval()), tmp_path / "narrow.safetensors")
    with pytest.raises(InvalidInput, match="takes inputs of shape"):
        TransferLearning(features=str(tmp_path / "narrow.safetensors"), epochs=1).run(model, thief)


@pytest.mark.parametrize("architecture", ["mlp-16-8", "cnn-4", "wrn-10-1", "resnet-10-4", "vgg-8-4"])
def test_shuffling_moves_weights_and_no_answer(architecture, few):
    model = TorchModel(build(architecture, (1, 8, 8), 10, 0).eval())
    # Statistics that differ by channel, so that a norm left behind would be noticed.
    for name, buffer in model.module.body.named_buffers():
        if buffer.ndim:
            drawn = torch.rand(buffer.shape, generator=torch.Generator().manual_seed(len(name)))
            buffer.copy_(drawn + 0.5)
    washed = FeatureShuffling().run(model, few, evaluation=few, rng=1)
    assert torch.allclose(washed.model.scores(few.x), model.scores(few.x), atol=1e-5)
    assert washed.record.fidelity.value == 1.0
    pairs = zip(model.module.parameters(), washed.model.module.parameters(), strict=True)
    moved = [a for a, b in pairs if not torch.equal(a, b)]
    assert len(moved) >= 3
    flat = [
        torch.cat([p.flatten() for p in m.parameters()]).sort().values
        for m in (model.module, washed.model.module)
    ]
    assert torch.equal(*flat)


def test_a_network_without_hidden_channels_cannot_be_shuffled(few):
    plain = TorchModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval(), (1, 8, 8), 10)
    with pytest.raises(InvalidInput, match="no hidden channels"):
        FeatureShuffling().run(plain, few)
    with pytest.raises(InvalidInput, match="pass some data"):
        FeatureShuffling().run(plain)


def test_decay_shrinks_and_tuning_repairs(model, thief, held_out):
    bare = Regularisation(decay=0.3, decay_epochs=8, epochs=0).run(model, thief, evaluation=held_out)
    repaired = Regularisation(decay=0.3, decay_epochs=8).run(model, thief, evaluation=held_out)
    size = [float(m.module.body[0].weight.detach().norm()) for m in (model, bare.model)]
    assert size[1] < 0.8 * size[0]
    assert repaired.record.accuracy.value >= bare.record.accuracy.value
    assert repaired.record.accuracy.value > 0.85


def test_laundering_silences_every_layer_and_unlearns(model, thief, held_out):
    attack = NeuralCleanse(remedy="launder", steps=4, minibatches=4, share=0.2, stamped=0.1)
    done = attack.run(model, thief, evaluation=held_out)
    network = done.model.module
    assert int((network.body[4].weight == 0).flatten(2).all(2).all(0).sum()) >= 1
    assert int((network.head.weight == 0).all(0).sum()) >= 2
    assert done.record.accuracy.value > 0.7
