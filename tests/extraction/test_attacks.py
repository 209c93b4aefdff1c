import pytest
import torch
from torch import nn

from assay.adapters import TorchModel
from assay.errors import InvalidInput
from assay.extraction import (
    DataTheft,
    Distillation,
    FineTuning,
    LabelQuery,
    LogitQuery,
    SourceCopy,
)
from assay.nets import Network, build, predict

ATTACKS = {
    "source-copy": SourceCopy(),
    "distillation": Distillation(epochs=12),
    "data-theft": DataTheft(epochs=12),
    "fine-tuning": FineTuning(),
    "label-query": LabelQuery(epochs=12),
    "logit-query": LogitQuery(epochs=12),
}
QUERIES = {"distillation": 500, "label-query": 600, "logit-query": 600}


def _inputs(attack, private, pool):
    return private if attack.private_data else pool


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_makes_an_honest_copy_at_the_stated_cost(name, victim, private, pool, held_out):
    attack = ATTACKS[name]
    theft = attack.run(victim, _inputs(attack, private, pool), evaluation=held_out)
    record = theft.record
    assert record.attack == attack.name == name
    assert record.fidelity.value >= 0.9
    assert record.fidelity.low < record.fidelity.value <= record.fidelity.high
    assert record.cost.queries == QUERIES.get(name, 0)
    assert victim.rows == record.cost.queries + len(held_out)
    assert record.victim == victim.digest
    assert record.surrogate == theft.surrogate.digest
    assert isinstance(theft.surrogate.module, Network)
    assert not theft.surrogate.module.training


def test_a_source_copy_is_identical(victim, pool, held_out):
    theft = SourceCopy().run(victim, pool, evaluation=held_out)
    assert theft.surrogate.digest == victim.digest
    assert theft.record.fidelity.value == 1.0
    with torch.no_grad():
        theft.surrogate.module.head.weight.zero_()
    assert victim.changes() == []


def test_a_copy_agrees_more_with_its_victim_than_with_a_stranger(victim, private, pool, held_out):
    stranger = TorchModel(build("mlp-32", private.input_shape, 10, 9), name="stranger")
    copy = LogitQuery(epochs=12).run(victim, pool).surrogate
    copy_labels = copy.labels(held_out.x)
    with_victim = float((copy_labels == victim.labels(held_out.x)).float().mean())
    with_stranger = float((copy_labels == stranger.labels(held_out.x)).float().mean())
    assert with_victim > 0.9
    assert with_stranger < 0.4


def test_the_copy_learns_the_victim_and_not_the_truth(victim, pool, held_out):
    class Permuted:
        """The victim with its classes renamed: what a copy knows can only come from it."""

        def __getattr__(self, name):
            return getattr(victim, name)

        def labels(self, x):
            return (victim.labels(x) + 1) % 10

        def scores(self, x):
            return victim.scores(x).roll(1, dims=1)

    for attack in (LabelQuery(epochs=12), LogitQuery(epochs=12)):
        record = attack.run(Permuted(), pool, evaluation=held_out).record
        assert record.fidelity.value > 0.9
        assert record.accuracy.value < 0.1
    record = DataTheft(epochs=12).run(Permuted(), pool, evaluation=held_out).record
    assert record.fidelity.value < 0.1  # true labels only: it never saw the victim
    assert record.accuracy.value > 0.9


def test_a_constant_victim_gives_a_constant_copy(victim, pool, held_out):
    class Constant:
        def __getattr__(self, name):
            return getattr(victim, name)

        def labels(self, x):
            return torch.full((len(x),), 4)

    theft = LabelQuery(epochs=3).run(Constant(), pool, evaluation=held_out)
    assert theft.record.fidelity.value == 1.0
    assert theft.record.accuracy.value == pytest.approx(float((held_out.y == 4).float().mean()))
    assert set(theft.surrogate.labels(held_out.x).tolist()) == {4}


def test_probabilities_teach_the_doubt_that_labels_do_not(victim, pool, held_out):
    class Hesitant:
        def __getattr__(self, name):
            return getattr(victim, name)

        def scores(self, x):
            return 0.5 * victim.scores(x) + 0.05

    wanted = Hesitant().scores(held_out.x)
    copies = [kind(epochs=12).run(Hesitant(), pool).surrogate for kind in (LogitQuery, LabelQuery)]
    gaps = [float((c.scores(held_out.x) - wanted).abs().sum(1).mean()) for c in copies]
    assert gaps[0] < 0.3 * gaps[1]


def test_data_theft_uses_another_architecture_and_never_asks(victim, private):
    theft = DataTheft(epochs=1).run(victim, private)
    assert victim.rows == 0
    assert victim.used.value == 0
    assert theft.surrogate.module.architecture.startswith("vgg")


def test_fine_tuning_starts_from_the_victim_and_keeps_its_kind(victim, pool):
    theft = FineTuning(epochs=1).run(victim, pool)
    assert victim.rows == 0
    assert victim.changes() == []
    assert theft.surrogate.digest != victim.digest
    assert theft.surrogate.module.architecture == "cnn-8"
    moved = dict(theft.surrogate.module.named_parameters())
    for name, weights in victim.module.named_parameters():
        distance = float((moved[name].detach() - weights.detach()).norm())
        assert 0 < distance < 0.5 * float(weights.detach().norm()) + 0.5, name
    assert torch.equal(theft.surrogate.module.normalize.mean, victim.module.normalize.mean)


def test_fine_tuning_trains_without_dropout_and_gives_it_back(private, pool):
    module = build("wrn-10-1-30", private.input_shape, 10, 0).eval()
    for part in module.parameters():
        part.requires_grad_(False)  # shipped frozen; a thief thaws it
    theft = FineTuning(epochs=2).run(TorchModel(module), pool.subset(range(64)))
    rates = [m.p for m in theft.surrogate.module.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.3, 0.3, 0.3]
    plain = build("wrn-10-1", private.input_shape, 10, 0)
    plain.load_state_dict(module.state_dict())
    same = FineTuning(epochs=2).run(TorchModel(plain), pool.subset(range(64)))
    assert theft.surrogate.digest == same.surrogate.digest
    assert theft.surrogate.digest != TorchModel(module).digest
    assert not any(p.requires_grad for p in module.parameters())


def test_fine_tuning_works_on_modules_that_are_not_ours(private, pool):
    torch.manual_seed(0)
    foreign = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double().eval()
    theft = FineTuning(epochs=1).run(TorchModel(foreign, private.input_shape, 10), pool.subset(range(50)))
    assert isinstance(theft.surrogate.module, nn.Sequential)
    assert predict(theft.surrogate.module, pool.x[:2]).shape == (2, 10)


def test_fine_tuning_refuses_what_cannot_be_trained(private, pool):
    class Fixed(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :10]

    with pytest.raises(InvalidInput, match="no trainable weights"):
        FineTuning().run(TorchModel(Fixed(), private.input_shape, 10, name="fixed"), pool)


def test_another_seed_gives_another_copy(victim, pool):
    digests = {LabelQuery(epochs=1).run(victim, pool, rng=seed).surrogate.digest for seed in (0, 1)}
    assert len(digests) == 2
