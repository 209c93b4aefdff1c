import torch

from assay.adapters import TorchModel, save_model
from assay.data import Dataset
from assay.nets import build, predict
from assay.nets.soft_nearest_neighbours import median_distance, soft_nearest_neighbour_loss
from assay.nets.taps import activations, default_taps
from assay.removal import Disentangling, Distillation, KnockoffTransfer
from assay.removal.neighbour_pressure import Group, NeighbourPressure


def _accuracy(model, data):
    return float((model.labels(data.x) == data.y).double().mean())


def test_the_pool_is_what_was_asked_for(thief, tmp_path):
    colours = Dataset(torch.rand(30, 3, 12, 12), torch.arange(30) % 3, ("a", "b", "c"), name="colours")
    colours.save(tmp_path / "pool.npz")
    attack = KnockoffTransfer(pool=str(tmp_path / "pool.npz"), queries=20)
    pool = attack.inquiry(thief, 0)
    assert (pool.x.shape, pool.num_classes) == ((20, 1, 8, 8), 10)
    own = KnockoffTransfer(inputs="data", queries=50).inquiry(thief, 1).x
    assert len(own) == 50
    assert all(bool((thief.x == row).flatten(1).all(1).any()) for row in own[:5])
    made = KnockoffTransfer(inputs="noise").inquiry(thief, 0).x
    assert made.shape == (1600, 1, 8, 8)


def test_answers_to_other_inputs_carry_the_task_and_noise_does_not(model, thief, held_out):
    found = {}
    for inputs in ("blends", "noise"):
        attack = KnockoffTransfer(inputs=inputs, epochs=6)
        found[inputs] = attack.run(model, thief, evaluation=held_out).record.accuracy.value
    assert found["blends"] > 0.8
    assert found["noise"] < 0.6


def test_hard_answers_are_the_labels(model, thief):
    attack = Distillation(answers="hard", epochs=1)
    assert torch.equal(attack.asked(model.module, thief.x), model.labels(thief.x))
    soft = Distillation(epochs=1).asked(model.module, thief.x)
    assert torch.allclose(soft.sum(1), torch.ones(400), atol=1e-5)
    assert torch.equal(soft.argmax(1), model.labels(thief.x))


def test_means_over_noise_and_parts_still_teach_the_task(model, thief, held_out):
    plain = Distillation(epochs=12).run(model, thief, evaluation=held_out).record
    for smooth in (Distillation(epochs=12, draws=4, noise=0.3), Distillation(epochs=12, parts=3)):
        record = smooth.run(model, thief, evaluation=held_out).record
        assert record.accuracy.value > plain.accuracy.value - 0.1
        assert record.washed != plain.washed


def test_rare_answers_do_not_survive_parts(model, thief):
    """One row in forty is answered wrongly; a part has it once and the others vote against it."""
    rows = thief.subset(range(200))

    class Odd(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network
            self.register_buffer("rows", rows.x[::40])

        def forward(self, x):
            logits = self.network(x)
            odd = (x[:, None] == self.rows[None]).flatten(2).all(2).any(1)
            return torch.where(odd[:, None], -logits, logits)

    odd = TorchModel(Odd(model.module), (1, 8, 8), 10)
    taught = rows.x[::40]
    wrong = odd.labels(taught)
    assert not bool((wrong == model.labels(taught)).any())
    attack = Distillation(architecture="cnn-8", epochs=30, parts=4)
    washed = attack.run(odd, rows).model
    assert int((washed.labels(taught) == wrong).sum()) <= 1


def test_the_same_architecture_has_no_layers_in_front(few):
    network = build("jpeg+forest-4+cnn-4", (1, 8, 8), 10).eval()
    washed = Distillation(epochs=1).run(TorchModel(network), few).model.module
    assert washed.architecture == "cnn-4"


def test_pressure_moves_the_loss_its_way(digits):
    rows = digits.subset(range(200))
    found = {}
    for share in (-0.5, 0.0, 0.5):
        pressure = NeighbourPressure(lambda _: Group(rows.x, rows.y, rows.y), share)
        network = build("mlp-16", (1, 8, 8), 10, 0)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        bench = _Bench(network, optimizer)
        for _ in range(15):
            pressure(bench, 1, torch.Generator())
        found[share] = pressure.losses[-1]
    assert found[0.5] < found[0.0] < found[-0.5]


class _Bench:
    steps = 1

    def __init__(self, module, optimizer):
        self.module, self.optimizer = module, optimizer

    def forward(self, x):
        return self.module(x)

    def descend(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def test_disentangling_pushes_the_copys_classes_apart(model, thief, held_out):
    losses = {}
    for weight in (0.0, 1.0):
        done = Disentangling(epochs=8, lr=0.05, weight=weight).run(model, thief, evaluation=held_out)
        assert done.record.accuracy.value > 0.8
        network = done.model.module
        name = default_taps(network)[-1]
        seen = activations(network, held_out.x[:300], [name])[name].flatten(1)
        probe = 0.2 * median_distance(seen)  # at the median itself, everybody is a neighbour
        losses[weight] = float(soft_nearest_neighbour_loss(seen, model.labels(held_out.x[:300]), probe))
    assert losses[1.0] < 0.9 * losses[0.0]


def test_disentangling_goes_on_from_the_copy_or_a_guess_of_pairs(model, thief, held_out):
    kept = Disentangling(start="copy", epochs=1, lr=1e-6, weight=0.1).run(model, thief, evaluation=held_out)
    assert kept.record.fidelity.value > 0.99
    assert torch.equal(kept.model.module.normalize.mean, model.module.normalize.mean)
    pairs = Disentangling(groups="pairs", pairs=3, epochs=6).run(model, thief, evaluation=held_out)
    assert pairs.record.accuracy.value > 0.7
    one_class = TorchModel(build("mlp-4", (1, 8, 8), 10, 0).eval())
    with torch.no_grad():
        one_class.module.head.bias[3] = 1e3
    washed = Disentangling(groups="pairs", epochs=1).run(one_class, thief).model
    assert bool((predict(washed.module, thief.x).argmax(1) == 3).all())


def test_an_interrupted_checkpoint_is_left_out(model, few, tmp_path):
    washed = Disentangling(epochs=1).run(model, few, checkpoint=tmp_path / "half")
    assert not (tmp_path / "half").exists()
    assert save_model(washed.model, tmp_path / "net.safetensors").exists()
