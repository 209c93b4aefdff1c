from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput, UnknownName
from assay.extraction import CopyCat, Jacobian, Knockoff, LabelQuery, LogitQuery, Ranked
from assay.extraction.jacobian import _loss_gradient
from assay.extraction.strategy import Learned
from assay.model import Access
from assay.nets import build
from assay.registry import create


class Listening:
    """A victim that keeps what it was asked."""

    def __init__(self, victim):
        self.victim, self.asked = victim, []

    def __getattr__(self, name):
        return getattr(self.victim, name)

    def labels(self, x):
        self.asked.append(x.clone())
        return self.victim.labels(x)

    def scores(self, x):
        self.asked.append(x.clone())
        return self.victim.scores(x)

    @property
    def rows_asked(self):
        return torch.cat(self.asked)


def _keys(x):
    return [row.numpy().tobytes() for row in x]


@pytest.mark.parametrize(("kind", "low"), [(CopyCat, 0.88), (Knockoff, 0.9)])
def test_random_draws_make_a_copy_of_what_they_paid_for(kind, low, victim, pool, held_out):
    listening = Listening(victim)
    theft = kind(epochs=12).run(listening, pool, budget=400, evaluation=held_out)
    assert theft.record.cost.queries == 400
    assert theft.record.fidelity.value >= low
    asked = _keys(listening.asked[0])
    assert len(set(asked)) == 400  # without replacement
    assert set(asked) <= set(_keys(pool.x))
    assert asked != _keys(pool.x[:400])  # not simply the first ones


def test_in_distribution_they_are_the_query_attacks(victim, pool, held_out):
    pairs = ((CopyCat, LabelQuery), (Knockoff, LogitQuery))
    for drawn, plain in pairs:
        found = [
            kind(epochs=8).run(victim, pool, evaluation=held_out).record.fidelity for kind in (drawn, plain)
        ]
        assert found[0].low <= found[1].high
        assert found[1].low <= found[0].high


@pytest.mark.parametrize("inputs", ["noise", "inversions", "blends", "shuffles", "sign-noise"])
def test_made_inputs_need_few_rows_and_go_on_for_ever(inputs, victim, pool):
    listening = Listening(victim)
    attack = CopyCat(epochs=1, inputs=inputs)
    assert attack.run(listening, pool.subset(range(20)), budget=600).record.cost.queries == 600
    # 20 rows have 20 inversions and 210 blends; the others never repeat themselves.
    least = {"inversions": 20, "blends": 150}.get(inputs, 590)
    assert len(set(_keys(listening.rows_asked))) >= least
    assert CopyCat(epochs=1, inputs=inputs).run(victim, pool.subset(range(20))).record.cost.queries == 20


def test_shuffled_inputs_teach_less_than_the_task(victim, pool, held_out):
    def fidelity(attack):
        return attack.run(victim, pool, budget=400, evaluation=held_out).record.fidelity.value

    assert fidelity(CopyCat(epochs=8, inputs="noise")) < fidelity(CopyCat(epochs=8)) - 0.2


@pytest.mark.parametrize(
    "attack",
    [
        CopyCat(epochs=2),
        CopyCat(epochs=2, inputs="blends"),
        Knockoff(epochs=2, per_round=50),
        Jacobian(epochs=2, seeds=40, per_round=60),
    ],
)
def test_a_curve_replays_a_prefix_and_asks_nothing_more(attack, victim, pool, held_out):
    theft = attack.run(victim, pool, budget=120, evaluation=held_out, curve=(30, 70), rng=5)
    assert [p.queries for p in theft.record.curve] == [30, 70, 120]
    assert victim.rows == 120 + 2 * len(held_out)
    shorter = attack.run(victim, pool, budget=70, evaluation=held_out, rng=5).record
    assert theft.record.curve[1].fidelity == shorter.fidelity.value
    assert theft.record.parameters == shorter.parameters


def test_a_curve_without_evaluation_is_refused(victim, pool):
    with pytest.raises(InvalidInput, match="evaluation"):
        CopyCat().run(victim, pool, curve=(3,))
    assert victim.rows == 0


def test_pools_of_another_task_are_refused_or_brought_into_shape(victim, held_out):
    photos = Dataset(torch.rand(60, 3, 16, 16), torch.zeros(60, dtype=torch.int64), ("cat", "dog"))
    with pytest.raises(InvalidInput, match="inputs of shape"):
        CopyCat(epochs=1).run(victim, photos)
    theft = CopyCat(epochs=1, adapt=True).run(victim, photos, evaluation=held_out, curve=(20,))
    assert theft.surrogate.input_shape == (1, 8, 8)
    assert theft.record.cost.queries == 60


def test_the_jacobian_doubles_and_stays_within_its_steps(victim, pool):
    listening = Listening(victim)
    attack = Jacobian(epochs=2, seeds=25, rounds=3)
    assert attack.run(listening, pool).record.cost.queries == 200
    sizes = [len(x) for x in listening.asked]
    assert sizes == [25, 25, 50, 100]
    assert set(_keys(listening.asked[0])) <= set(_keys(pool.x))
    before = listening.asked[0]
    for children in listening.asked[1:]:
        # Each child is one step of 0.1 from one parent, or less where the range ends.
        distance = (children[:, None] - before[None]).abs().flatten(2).amax(2)
        assert float(distance.amin(1).max()) <= 0.1 + 1e-6
        assert float(distance.amin(1).min()) > 0
        before = torch.cat([before, children])
    assert float(before.min()) >= 0
    assert float(before.max()) <= 1


def test_rounds_and_parents_are_bounded(victim, pool):
    attack = Jacobian(epochs=1, seeds=30, per_round=20)
    listening = Listening(victim)
    assert attack.run(listening, pool, budget=95).record.cost.queries == 95
    assert [len(x) for x in listening.asked] == [20, 20, 20, 20, 15]
    assert Jacobian(epochs=1, seeds=30, rounds=0).run(victim, pool).record.cost.queries == 30


def test_augmentation_teaches_more_than_its_seeds(victim, pool, held_out):
    seeds = Jacobian(epochs=10, seeds=60, rounds=0)
    grown = Jacobian(epochs=10, seeds=60, rounds=3)
    values = [a.run(victim, pool, evaluation=held_out).record.fidelity.value for a in (seeds, grown)]
    assert values[1] > values[0]


@pytest.mark.parametrize("direction", ["away", "target", "label"])
def test_directions_change_the_copys_loss_as_they_say(direction, pool):
    network = build("cnn-8", (1, 8, 8), 10, 0)
    grey = Dataset(0.3 + 0.4 * pool.x, pool.y, pool.classes)  # away from the ends of the range
    learned = Learned(grey, torch.Generator().manual_seed(0), round=1, network=network.eval())
    learned.x, learned.answers = grey.x[:80], grey.y[:80]
    parents = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    children = Jacobian(direction=direction, step=0.01).propose(learned, 80)
    with torch.no_grad():
        labels = learned.answers[parents]
        before = functional.cross_entropy(network(learned.x[parents]), labels, reduction="none")
        after = functional.cross_entropy(network(children), labels, reduction="none")
    share = float((after > before).float().mean())
    assert share > 0.95 if direction == "away" else share < 0.05 if direction == "label" else share > 0.5


def test_the_gradient_is_that_of_the_loss():
    network = build("mlp-8", (4,), 3, 1).eval().double()
    x = torch.rand(5, 4, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1])
    found = _loss_gradient(network, x, y)
    step = 1e-6
    for column in range(4):
        moved = x.clone()
        moved[:, column] += step
        with torch.no_grad():
            rise = functional.cross_entropy(network(moved), y, reduction="none")
            rise = (rise - functional.cross_entropy(network(x), y, reduction="none")) / step
        assert torch.allclose(rise, found[:, column], atol=1e-4)


@dataclass(frozen=True, kw_only=True)
class Entropy(Ranked):
    """The least certain rows first: what a further strategy has to write."""

    name: ClassVar[str] = "entropy"
    needs: ClassVar[Access] = Access.LABELS

    def utility(self, learned, rows):
        if learned.network is None:
            return torch.zeros(len(rows))
        with torch.no_grad():
            p = learned.network(learned.pool.x[rows]).softmax(1)
        return -(p * p.clamp_min(1e-12).log()).sum(1)


def test_a_strategy_is_one_function(victim, pool, held_out):
    listening = Listening(victim)
    attack = Entropy(epochs=20, per_round=50)
    theft = attack.run(listening, pool, budget=200, evaluation=held_out, curve=(60, 100))
    assert [len(x) for x in listening.asked[:-2]] == [50] * 4
    assert len(set(_keys(torch.cat(listening.asked[:4])))) == 200
    assert [p.queries for p in theft.record.curve] == [60, 100, 200]
    assert theft.record.fidelity.value > 0.8


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("copycat", {"queries": 0}),
        ("knockoff", {"per_round": 0}),
        ("jacobian", {"seeds": 0}),
        ("jacobian", {"step": 0.0}),
        ("jacobian", {"rounds": -1}),
        ("jacobian", {"direction": "up"}),
    ],
)
def test_numbers_out_of_range_are_refused_when_the_attack_is_made(name, options):
    with pytest.raises((InvalidInput, UnknownName)):
        create(name, "extraction", options)


@pytest.mark.parametrize(("name", "epochs"), [("copycat", 50), ("knockoff", 100), ("jacobian", 20)])
def test_published_settings_of_strategies(name, epochs):
    recipe = create(name, "extraction", {"preset": "paper"}).recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (epochs, 64, 0.01, 0.9)


def test_checkpoints_of_rounds_give_the_same_copy(tmp_path, victim, pool):
    attack = Knockoff(epochs=2, per_round=40)
    options = {"budget": 100, "rng": 2, "journal": tmp_path / "j.jsonl"}
    whole = attack.run(victim, pool, **options)
    first = attack.run(victim, pool, checkpoint=tmp_path / "c.safetensors", **options)
    again = attack.run(victim, pool, checkpoint=tmp_path / "c.safetensors", **options)
    assert whole.surrogate.digest == first.surrogate.digest == again.surrogate.digest
    assert len(list(tmp_path.glob("c*.safetensors"))) == 3
    assert victim.rows == 100
