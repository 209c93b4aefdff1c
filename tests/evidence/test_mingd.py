from __future__ import annotations

import copy
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from assay.adapters import TorchModel
from assay.data.dataset import Dataset
from assay.errors import BudgetExceeded, InvalidInput
from assay.evidence.dataset_inference.mingd import MinGD, _Descent
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.observers import Recorder

UNIT = (0.0, 1.0)
ZERO = torch.zeros(1, dtype=torch.int64)


def linear(weight, bias):
    net = nn.Linear(len(weight), 2)
    net.weight.data = torch.stack([weight, torch.zeros_like(weight)])
    net.bias.data = torch.tensor([bias, 0.0])
    return net


class Spy(_Descent):
    """Keeps the points at which descents ended."""

    def __init__(self, *args):
        self.ends = []
        super().__init__(*args)

    def _store(self, task, point, made, hit, passes):
        self.ends += zip(task.tolist(), point.clone(), hit.tolist(), strict=True)
        super()._store(task, point, made, hit, passes)


def spied(config, net, x, y):
    spy = Spy(config, net, x, y, UNIT)
    list(spy.run())
    return spy


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
    net.zero_grad(set_to_none=True)
    return net, data.subset(range(600, 608))


@pytest.mark.parametrize("search", ["fixed", "linearised"])
def test_linear_model_gives_the_exact_margins(search):
    torch.manual_seed(0)
    weight = torch.randn(144) / 12
    x = 0.5 + 0.05 * torch.randn(4, 144)
    for gap in (0.02, 0.15):
        for row in x:
            net = linear(weight, gap - float(weight.double() @ row.double()))
            found = MinGD(search=search).embed(net, row[None], ZERO, UNIT)
            assert found.converged.all()
            assert found.correct.tolist() == [True]
            assert (found.distances[0, 0] == 0).all()
            linf, l2, l1 = found.distances[0, 1].double().tolist()
            tallest = weight.abs().topk(100).values.mean()
            for value, exact, step in (
                (linf, gap / float(weight.abs().sum()), 0.001),
                (l2, gap / float(weight.norm()), 0.01),
                (l1, gap / float(tallest), 1.0),
            ):
                assert exact - 1e-5 <= value <= exact + step * (1 + 1e-3)


def test_linearised_steps_are_fewer():
    weight = torch.linspace(0.5, 1, 144)
    net = linear(weight, 2.0 - 0.5 * float(weight.sum()))
    x = torch.full((1, 144), 0.5)
    fixed = MinGD(search="fixed").embed(net, x, ZERO, UNIT)
    leaps = MinGD().embed(net, x, ZERO, UNIT)
    assert leaps.queries * 2 < fixed.queries
    assert leaps.converged.all()
    assert (leaps.distances <= fixed.distances + torch.tensor([0.001, 0.01, 1.0])).all()


@pytest.mark.parametrize(("search", "steps"), [("fixed", 25), ("linearised", 8)])
def test_converged_means_that_the_network_says_so(digits, search, steps):
    net, data = digits
    config = MinGD(steps=steps, coordinates=10, chunk_rows=50, search=search)
    spy = spied(config, net, data.x, data.y)
    found = spy.found
    assert len(spy.ends) == len(spy.tasks) == 8 * 9 * 3
    for task, point, hit in spy.ends:
        where, column, norm = spy.tasks[task].tolist()
        assert (int(net(point[None]).argmax()) == int(found.targets[where, column])) == hit
        assert bool(found.converged[where, column, norm]) == hit
        assert 0 <= float(point.min()) <= float(point.max()) <= 1
        length = torch.linalg.vector_norm((point - data.x[where]).flatten().double(), (math.inf, 2, 1)[norm])
        assert float(found.distances[where, column, norm]) == pytest.approx(float(length), rel=1e-6)
    assert 0.1 < float(found.converged.float().mean()) < 0.9
    assert torch.equal(found.censored, ~found.converged)
    own = found.targets == net(data.x).argmax(1).unsqueeze(1)
    assert found.converged[own].all()
    assert (found.distances[own] == 0).all()
    assert (found.iterations[own] == 0).all()
    assert (found.iterations[~found.converged] == steps).all()


def test_same_path_as_a_plain_loop(digits):
    net, data = digits
    found = MinGD(norms=("l2",), search="fixed").embed(net, data.x[:2], data.y[:2], UNIT)
    for row in range(2):
        for target in range(10):
            delta = torch.zeros_like(data.x[:1])
            made = 0
            while int(net(data.x[row][None] + delta).argmax()) != target:
                part = delta.clone().requires_grad_()
                logits = net(data.x[row][None] + part)[0]
                (slope,) = torch.autograd.grad(logits[target] - logits.max(), part)
                delta = (data.x[row] + delta + 0.01 * slope / slope.norm()).clamp(0, 1) - data.x[row]
                made += 1
            assert abs(int(found.iterations[row, target, 0]) - made) <= 1
            assert float(found.distances[row, target, 0]) == pytest.approx(float(delta.norm()), abs=0.011)


def test_one_forward_and_one_input_gradient_per_row_and_iteration(digits):
    net, data = digits
    rows = {"forward": 0, "backward": 0}

    class Tap(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            rows["forward"] += len(x)
            return x.clone()

        @staticmethod
        def backward(ctx, slope):
            rows["backward"] += len(slope)
            return slope

    class Tapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, x):
            return self.inner(Tap.apply(x))

    found = MinGD(steps=30, chunk_rows=64).embed(Tapped(), data.x, data.y, UNIT)
    assert rows["forward"] == found.queries
    assert rows["backward"] == found.queries - len(data)
    # Each descent looks once before every update and once after the last.
    tasks = found.targets != net(data.x).argmax(1).unsqueeze(1)
    looks = (found.iterations + 1)[tasks].sum()
    assert found.queries == len(data) + int(looks)
    assert all(p.grad is None for p in net.parameters())


def test_rows_under_way_never_exceed_the_chunk(digits):
    net, data = digits
    seen = []
    handle = net.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    MinGD(steps=5, chunk_rows=13).embed(net, data.x, data.y, UNIT)
    handle.remove()
    assert max(seen) == 13
    assert sum(n == 13 for n in seen) > 0.9 * len(seen)  # the queue keeps the batch full


def test_chunks_change_nothing_but_rounding(digits):
    net, data = digits
    whole = MinGD(steps=60).embed(net, data.x, data.y, UNIT)
    small = MinGD(steps=60, chunk_rows=17).embed(net, data.x, data.y, UNIT)
    assert float((whole.iterations == small.iterations).float().mean()) > 0.98
    assert float((whole.distances - small.distances).abs().median()) < 1e-6


def test_model_state_is_left_alone():
    net = build("cnn-4", (1, 8, 8), 4, 0)
    net.train()
    net.body[1].eval()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    next(net.parameters()).requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    flags = [m.training for m in net.modules()]
    needs = [p.requires_grad for p in net.parameters()]
    seed = torch.get_rng_state()
    with torch.no_grad():
        MinGD(steps=4).embed(net, torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
                             torch.zeros(5, dtype=torch.int64), UNIT)  # fmt: skip
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == flags
    assert [p.requires_grad for p in net.parameters()] == needs
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), seed)


def test_l1_steps_move_exactly_k_coordinates_that_can_move():
    weight = torch.linspace(1, 2, 20)
    net = linear(weight, -1.0)  # leaving class 0 means lowering coordinates
    x = torch.full((1, 20), 0.5)
    x[0, 19], x[0, 18] = 0.0, 1.0  # the steepest is at the edge already; the next has all the room
    spy = spied(MinGD(steps=1, coordinates=3, norms=("l1",)), net, x, ZERO)
    moved = (spy.ends[0][1] - x[0]).nonzero().squeeze(1).tolist()
    assert moved == [16, 17, 18]
    tiny = spied(MinGD(steps=1, coordinates=100, norms=("l1",)), net, x, ZERO)
    assert int((tiny.ends[0][1] != x[0]).sum()) == 19


def test_top_targets_are_the_nearest_wrong_classes(digits):
    net, data = digits
    found = MinGD(steps=3, targets=4).embed(net, data.x, data.y, UNIT)
    ranks = net(data.x).argsort(1, descending=True)[:, 1:5]
    assert torch.equal(found.targets, ranks)
    assert found.distances.shape == (8, 4, 3)
    assert MinGD(steps=3, targets=4).worst_case(10) == 1 + 4 * 3 * 4
    assert int(found.queries_per_point.max()) <= 49


@pytest.mark.parametrize("search", ["fixed", "linearised"])
def test_a_network_without_gradient_is_censored_at_once(search):
    class Flat(nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0, 0.0]]).expand(len(x), 2) + 0 * x.round()[:, :1]

    class Hidden(nn.Module):
        def forward(self, x):
            return torch.stack([x.detach().sum(1) + 1, torch.zeros(len(x))], 1)

    for net in (Flat(), Hidden()):
        found = MinGD(search=search).embed(net, torch.full((2, 5), 0.5), ZERO.repeat(2), UNIT)
        assert found.censored[:, 1].all()
        assert (found.iterations[:, 1] == 1).all()
        assert (found.distances == 0).all()


def test_budget_flags_and_counts(digits):
    net, data = digits
    with Ledger(TorchModel(net), Access.WEIGHTS) as oracle:
        found = MinGD(steps=5).embed(oracle.module, data.x, data.y, UNIT)
        assert oracle.queries == found.queries <= len(data) * MinGD(steps=5).worst_case(10)
    net.train()
    oracle = Ledger(TorchModel(net), Access.WEIGHTS, budget=100)
    with pytest.raises(BudgetExceeded):
        MinGD(steps=5).embed(oracle.module, data.x, data.y, UNIT)
    assert net.training
    assert oracle.queries <= 100
    net.eval()


def test_observers(digits):
    net, data = digits
    log = Recorder()
    MinGD(steps=2).embed(net, data.x, data.y, UNIT, observers=[log])
    assert log.events[0] == ("start", "mingd", 8 * 9 * 3)
    assert [e for e in log.events if e[0] == "step"][-1][2] == 8 * 9 * 3


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"coordinates": 0},
        {"leap": 0},
        {"chunk_rows": 0},
        {"targets": 0},
        {"search": "quick"},
        {"step_sizes": (0.1, 0.1, 0.0)},
        {"norms": ("l3",)},
    ],
)
def test_bad_hyperparameters(options):
    with pytest.raises(InvalidInput):
        MinGD(**options)


def test_bad_input():
    net = linear(torch.ones(3), 0.0)
    x = torch.full((1, 3), 0.5)
    with pytest.raises(InvalidInput, match="wrong classes"):
        MinGD(targets=2).embed(net, x, ZERO, UNIT)
    with pytest.raises(InvalidInput, match="labels must lie"):
        MinGD().embed(net, x, ZERO + 2, UNIT)
    with pytest.raises(InvalidInput, match="finite value range"):
        MinGD().embed(net, x, ZERO, (0.0, math.inf))
    with pytest.raises(InvalidInput, match="finite logits"):
        MinGD().embed(linear(torch.full((3,), math.nan), 0.0), x, ZERO, UNIT)
