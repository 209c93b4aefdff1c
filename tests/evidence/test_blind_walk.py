from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from assay.adapters import TorchModel
from assay.data.dataset import Dataset
from assay.errors import AccessDenied, BudgetExceeded, InvalidInput
from assay.evidence.dataset_inference.blind_walk import BlindWalk, _Walk
from assay.evidence.dataset_inference.norms import NORMS
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.observers import Recorder

UNIT = (0.0, 1.0)


def linear(weight, bias):
    """Two classes; class 0 where ``weight . x + bias > 0``."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(len(weight), 2))
    net[1].weight.data = torch.stack([weight, torch.zeros_like(weight)])
    net[1].bias.data = torch.tensor([bias, 0.0])
    return net


def meter(net, shape, **options):
    return Ledger(TorchModel(net, shape, 2), Access.LABELS, **options)


def constant(label, dimension=6, **options):
    return meter(linear(torch.zeros(dimension), 1.0 if label == 0 else -1.0), (dimension,), **options)


@pytest.fixture(scope="module")
def digits():
    raw = load_digits()
    data = Dataset(
        torch.from_numpy(raw.images).float().unsqueeze(1) / 16,
        torch.from_numpy(raw.target).long(),
        tuple("0123456789"),
    )
    net = build("mlp-32", data.input_shape, 10, 0)
    train(net, data.subset(range(600)), Recipe(epochs=8, batch_size=32, lr=0.1), rng=0)
    return net, data.subset(range(600, 640))


WALK = BlindWalk(walks=4, steps=30, scales=(0.1, 0.05, 0.05))


def test_linear_model_stops_where_the_geometry_says():
    torch.manual_seed(3)
    weight = torch.randn(64) / 8
    x = torch.full((3, 64), 0.5) + 0.02 * torch.randn(3, 64)
    config = BlindWalk(walks=6, steps=20, scales=(0.005, 0.003, 0.002), clean=False)
    for gap in (0.004, 0.02):
        for search in ("bisection", "linear"):
            for row in x:
                net = linear(weight, gap - float(weight.double() @ row.double()))
                oracle = meter(net, (64,))
                one, y = row[None], torch.zeros(1, dtype=torch.int64)
                walk = BlindWalk(**{**config.__dict__, "search": search})
                found = walk.embed(oracle, one, y, UNIT, rng=5)
                rays = _Walk(walk, oracle, one, y.numpy(), UNIT, 1.0, 5)._draw(0)
                slope = rays.astype(np.float64) @ weight.double().numpy()
                last = np.where(slope < 0, np.floor(gap / np.abs(slope)) + 1, np.inf)
                expected = np.minimum(last, 20).reshape(6, 3)
                assert np.array_equal(found.steps[0].numpy(), expected)
                assert np.array_equal(found.censored[0].numpy(), last.reshape(6, 3) > 20)
                assert found.censored.any()
                assert not found.censored.all()


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("batch", [1, 100, 4096])
def test_label_counts_are_exact(clean, batch):
    x, y = torch.rand(7, 6), torch.zeros(7, dtype=torch.int64)
    for label, search, per_ray in (
        (0, "linear", 50),
        (0, "bisection", 1),
        (1, "linear", 1),
        (1, "bisection", 1 if clean else 6),  # 50, then 25, 12, 6, 3, 1
    ):
        oracle = constant(label)
        config = BlindWalk(search=search, clean=clean, batch_rows=batch)
        found = config.embed(oracle, x, y, UNIT, rng=0)
        assert found.queries_per_point.tolist() == [30 * per_ray + clean] * 7
        assert oracle.queries == found.queries <= 7 * config.worst_case()
        assert bool(found.censored.all()) == (label == 0)
        assert bool((found.steps == (50 if label == 0 else 1)).all())
        assert (found.correct is None) == (not clean)


def test_worst_case_is_the_published_saving():
    assert BlindWalk(clean=False).worst_case() == 210
    assert BlindWalk(clean=False, search="linear").worst_case() == 1500
    assert BlindWalk(steps=1, walks=1, norms=("l2",)).worst_case() == 2


def test_points_that_are_wrong_at_first_but_right_later_stay_within_the_worst_case():
    # Wrong at the point itself, right further out: the walk has to search on.
    weight = torch.ones(4)
    net = linear(weight, -2.0001)
    config = BlindWalk(walks=50, steps=13, norms=("l2",))
    x, y = torch.full((1, 4), 0.5), torch.zeros(1, dtype=torch.int64)
    found = config.embed(meter(net, (4,)), x, y, UNIT, rng=0)
    assert found.correct.tolist() == [False]
    assert found.censored.any()
    assert (found.steps == 1).any()
    assert found.queries <= config.worst_case()
    # Every censored ray took ceil(log2(13)) + 1 labels, all others one.
    censored = int(found.censored.sum())
    assert found.queries == 1 + 5 * censored + (50 - censored)


def test_only_labels_matter(digits):
    net, data = digits

    class Louder(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, x):
            return 37.0 * self.inner(x)

    a = WALK.embed(Ledger(TorchModel(net), Access.LABELS), data.x, data.y, UNIT, rng=1)
    b = WALK.embed(
        Ledger(TorchModel(Louder(), data.input_shape, 10), Access.LABELS), data.x, data.y, UNIT, rng=1
    )
    assert torch.equal(a.distances, b.distances)


def test_batch_order_and_number_of_walks_change_nothing(digits):
    net, data = digits
    oracle = Ledger(TorchModel(net), Access.LABELS)
    whole = WALK.embed(oracle, data.x, data.y, UNIT, rng=1)
    for rows in (12, 50):
        small = BlindWalk(**{**WALK.__dict__, "batch_rows": rows}).embed(oracle, data.x, data.y, UNIT, rng=1)
        assert torch.equal(small.distances, whole.distances)
        assert torch.equal(small.queries_per_point, whole.queries_per_point)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    mixed = WALK.embed(oracle, data.x[order], data.y[order], UNIT, rng=1)
    assert torch.equal(mixed.distances, whole.distances[order])
    fewer = BlindWalk(**{**WALK.__dict__, "walks": 2, "norms": ("l2",)})
    assert torch.equal(
        fewer.embed(oracle, data.x, data.y, UNIT, rng=1).distances, whole.distances[:, :2, 1:2]
    )
    other = WALK.embed(oracle, data.x, data.y, UNIT, rng=2)
    assert not torch.equal(other.distances, whole.distances)


@pytest.mark.parametrize("clean", [True, False])
def test_blocks_change_nothing_and_what_was_sent_is_never_overwritten(digits, monkeypatch, clean):
    net, data = digits
    runs = []

    class Keeper(TorchModel):
        def labels(self, x):
            kept.append((x, x.clone()))
            return super().labels(x)

    walk = BlindWalk(**{**WALK.__dict__, "clean": clean, "batch_rows": 50})
    for block in (2**18, 3 * data.x[0].numel(), 1):
        monkeypatch.setattr("assay.evidence.dataset_inference.blind_walk._BLOCK", block)
        kept = []
        found = walk.embed(Ledger(Keeper(net), Access.LABELS), data.x[:8], data.y[:8], UNIT, rng=1)
        assert all(torch.equal(sent, copy) for sent, copy in kept)
        runs.append((found, torch.cat([copy for _, copy in kept])))
    for found, sent in runs[1:]:
        assert torch.equal(sent, runs[0][1])
        assert torch.equal(found.distances, runs[0][0].distances)
        assert torch.equal(found.queries_per_point, runs[0][0].queries_per_point)


def test_distances_are_norms_of_the_clipped_move_inside_the_box(digits):
    net, data = digits
    seen = []

    class Spy(TorchModel):
        def labels(self, x):
            seen.append(x.clone())
            return super().labels(x)

    found = WALK.embed(Ledger(Spy(net), Access.LABELS), data.x[:5], data.y[:5], UNIT, rng=0)
    sent = torch.cat(seen)
    assert sent.min() >= 0
    assert sent.max() <= 1
    assert len(sent) == found.queries
    walk = _Walk(
        WALK,
        Ledger(TorchModel(net), Access.LABELS),
        data.x[:5].flatten(1),
        data.y[:5].numpy(),
        UNIT,
        1.0,
        0,
    )
    for point in range(5):
        rays = torch.from_numpy(walk._draw(point)).reshape(4, 3, -1)
        at = data.x[point].flatten()
        moves = (at + found.steps[point].unsqueeze(2) * rays).clamp(0, 1) - at
        for column, order in enumerate((math.inf, 2, 1)):
            expected = torch.linalg.vector_norm(moves[:, column], order, dim=1)
            assert torch.allclose(found.distances[point, :, column], expected, rtol=1e-5)
    assert (found.distances >= 0).all()
    assert (found.steps[found.censored] == WALK.steps).all()


def test_bisection_agrees_with_linear_steps_for_a_fraction_of_the_labels(digits):
    net, data = digits
    oracle = Ledger(TorchModel(net), Access.LABELS)
    config = BlindWalk(walks=4, steps=50, scales=(0.06, 0.03, 0.03))
    fast = config.embed(oracle, data.x, data.y, UNIT, rng=0)
    slow = BlindWalk(**{**config.__dict__, "search": "linear"}).embed(oracle, data.x, data.y, UNIT, rng=0)
    assert float((fast.steps == slow.steps).float().mean()) >= 0.95
    assert slow.queries >= 3 * fast.queries
    assert (slow.steps <= fast.steps).all()  # linear finds the first crossing
    assert 0.02 < float(slow.censored.float().mean()) < 0.9


def test_a_budget_finishes_what_it_starts_and_is_never_exceeded(digits):
    net, data = digits
    whole = WALK.embed(Ledger(TorchModel(net), Access.LABELS), data.x, data.y, UNIT, rng=0)
    sizes = []
    for budget in (WALK.worst_case(), 1000, 1500, 100_000):
        oracle = Ledger(TorchModel(net), Access.LABELS, budget=budget)
        part = WALK.embed(oracle, data.x, data.y, UNIT, rng=0)
        sizes.append(len(part))
        assert oracle.queries == part.queries <= budget
        assert len(part) >= min(len(data), budget // WALK.worst_case())
        assert torch.equal(part.distances, whole.distances[: len(part)])
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3] == len(data)
    oracle = Ledger(TorchModel(net), Access.LABELS, budget=WALK.worst_case() - 1)
    with pytest.raises(BudgetExceeded, match="one point costs up to"):
        WALK.embed(oracle, data.x, data.y, UNIT, rng=0)
    assert oracle.queries == 0


def test_a_journal_replays_the_whole_walk(digits, tmp_path):
    net, data = digits
    runs = []
    for _ in range(2):
        with Ledger(TorchModel(net), Access.LABELS, journal=tmp_path / "walk.jsonl") as oracle:
            runs.append((WALK.embed(oracle, data.x[:4], data.y[:4], UNIT, rng=0), oracle.cost))
    assert torch.equal(runs[0][0].distances, runs[1][0].distances)
    assert (runs[0][1].replayed, runs[1][1].replayed) == (0, runs[1][1].queries)


def test_scales_follow_the_value_range():
    oracle = constant(0)
    x, y = torch.full((1, 6), 100.0), torch.zeros(1, dtype=torch.int64)
    config = BlindWalk(walks=200, norms=("linf",))
    rays = _Walk(config, oracle, x, y.numpy(), (0.0, 255.0), 255.0, 0)._draw(0)
    assert 0.95 * 0.005 * 255 < np.abs(rays).max() <= 0.005 * 255


def test_noise_has_the_stated_distributions():
    config = BlindWalk(walks=300)
    walk = _Walk(config, constant(0, 64), torch.full((1, 64), 0.5), np.zeros(1), UNIT, 1.0, 0)
    rays = walk._draw(0).reshape(300, 3, 64).astype(np.float64)
    assert rays.std((0, 2)) == pytest.approx([0.005 / 3**0.5, 0.005, 0.01 * 2**0.5], rel=0.03)
    assert np.abs(rays.mean((0, 2))).max() < 5e-4
    kurtosis = ((rays / rays.std((0, 2), keepdims=True)) ** 4).mean((0, 2))
    assert kurtosis == pytest.approx([1.8, 3, 6], rel=0.12)


def test_global_random_state_and_observers(digits):
    net, data = digits
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not change
    log = Recorder()
    WALK.embed(Ledger(TorchModel(net), Access.LABELS), data.x[:3], data.y[:3], UNIT, rng=0, observers=[log])
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002 - as above
    assert log.events[0] == ("start", "blind-walk", 3)
    assert [e for e in log.events if e[0] == "step"][-1][2] == 3
    assert log.events[-1][0] == "end"


def test_no_points_cost_nothing():
    found = WALK.embed(constant(0), torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), UNIT, rng=0)
    assert len(found) == found.queries == 0


def test_presets():
    assert BlindWalk.preset("cifar10") == BlindWalk()
    assert BlindWalk.preset("svhn").steps == 100
    with pytest.raises(InvalidInput, match="svhn"):
        BlindWalk.preset("imagenet")


@pytest.mark.parametrize(
    "options",
    [
        {"walks": 0},
        {"steps": 0},
        {"batch_rows": 0},
        {"scales": (0.1, 0.1)},
        {"scales": (0.1, -0.1, 0.1)},
        {"norms": ("l1", "l2")},
        {"norms": ()},
        {"search": "fast"},
    ],
)
def test_bad_hyperparameters(options):
    with pytest.raises(InvalidInput):
        BlindWalk(**options)


@pytest.mark.parametrize(
    ("x", "y", "value_range"),
    [
        (torch.zeros(2, 6).double(), torch.zeros(2, dtype=torch.int64), UNIT),
        (torch.zeros(2, 6), torch.zeros(2), UNIT),
        (torch.zeros(2, 2, 3), torch.zeros(2, dtype=torch.int64), UNIT),
        (torch.zeros(2, 6), torch.zeros(3, dtype=torch.int64), UNIT),
        (torch.zeros(2, 6), torch.full((2,), 2), UNIT),
        (torch.full((2, 6), 1.5), torch.zeros(2, dtype=torch.int64), UNIT),
        (torch.full((2, 6), math.nan), torch.zeros(2, dtype=torch.int64), UNIT),
        (torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64), (-math.inf, math.inf)),
    ],
)
def test_bad_points(x, y, value_range):
    oracle = constant(0)
    with pytest.raises(InvalidInput):
        WALK.embed(oracle, x, y, value_range, rng=0)
    assert oracle.queries == 0


def test_labels_must_be_granted():
    model = TorchModel(linear(torch.zeros(6), 1.0), (6,), 2)
    with pytest.raises(AccessDenied):
        WALK.embed(
            Ledger(model, Access.NONE), torch.zeros(1, 6), torch.zeros(1, dtype=torch.int64), UNIT, rng=0
        )


def test_norm_names_are_in_canonical_order():
    assert NORMS == ("linf", "l2", "l1")
