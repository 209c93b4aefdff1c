"""Elastic weight consolidation: the information is Fisher's, and it holds what matters."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from assay.errors import InvalidInput
from assay.removal import FineTuning
from assay.removal.elastic import consolidated, fisher


def exact(weight, x):
    """The diagonal of a linear softmax model's information: p (1 - p) x squared, written out."""
    p = functional.linear(x, weight).softmax(1)
    return torch.stack([(p[:, [c]] * (1 - p[:, [c]]) * x.square()).mean(0) for c in range(len(weight))])


def test_the_estimate_is_unbiased_for_a_linear_model():
    torch.manual_seed(0)
    network, x = nn.Linear(4, 3, bias=False), torch.randn(200, 4) * torch.tensor([0.1, 1.0, 2.0, 0.0])
    found = torch.stack([fisher(network, x, rng)[network.weight] for rng in range(8)])
    error = (found.mean(0) - exact(network.weight.detach(), x)).abs()
    assert (error <= 4 * found.std(0) / 8**0.5 + 1e-6).all()
    assert found[:, :, 3].eq(0).all()


def test_what_matters_is_held_and_the_rest_moves():
    torch.manual_seed(0)
    network = nn.Linear(2, 2, bias=False)
    x = torch.tensor([[3.0, 0.0]] * 20)  # the second input is never on: its weights are free
    start = network.weight.detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with consolidated(network, x, pull=50.0, lr=0.1):
        for _ in range(50):
            optimizer.zero_grad()
            (network.weight * torch.tensor([[1.0, 1.0], [-1.0, -1.0]])).sum().backward()
            optimizer.step()
    moved = (network.weight.detach() - start).abs()
    assert moved[:, 1].tolist() == pytest.approx([5.0, 5.0])
    assert (moved[:, 0] < 0.2).all()  # slope over stiffness, at most a tenth
    optimizer.zero_grad()
    network.weight.sum().backward()
    assert network.weight.grad.eq(1).all()  # nothing pulls any more


def test_a_pull_never_overshoots():
    network = nn.Linear(2, 2, bias=False)
    start = network.weight.detach().clone()
    with consolidated(network, torch.eye(2), pull=1e9, lr=0.1):
        with torch.no_grad():
            network.weight += 1.0
        (0.0 * network.weight.sum()).backward()
        with torch.no_grad():
            network.weight -= 0.1 * network.weight.grad
    assert torch.allclose(network.weight, start, atol=1e-6)


def test_fine_tuning_that_is_held_forgets_less(model, thief, held_out):
    few, numbers = thief.subset(range(40)), {"labels": "true", "lr": 0.1, "epochs": 10}

    def distance(washed):
        pairs = zip(model.module.parameters(), washed.module.parameters(), strict=True)
        return float(sum((a - b).detach().square().sum() for a, b in pairs))

    free, held = (FineTuning(**numbers, ewc=ewc).run(model, few).model for ewc in (0.0, 3.0))
    assert distance(held) < 0.5 * distance(free)
    agrees = [
        float((one.labels(held_out.x) == model.labels(held_out.x)).float().mean()) for one in (free, held)
    ]
    assert agrees[1] > agrees[0]
    assert all(not p._backward_hooks for p in held.module.parameters())
    assert FineTuning(**numbers, ewc=3.0).run(model, few).model.digest == held.digest


@pytest.mark.parametrize("options", [{"ewc": -1.0}, {"ewc": float("inf")}, {"ewc": 1.0, "layers": "last"}])
def test_what_cannot_be(options):
    with pytest.raises(InvalidInput, match="ewc of fine-tuning"):
        FineTuning(**options)
