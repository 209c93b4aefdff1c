"""Triggers moved to where copies agree and clean models do not."""

import pytest
import torch
from torch import nn

from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.conferring import Conferring, confer, margins


def line(slope, offset):
    """Return a model of one number that says class 1 where slope * x + offset > 0."""
    network = nn.Linear(1, 2)
    with torch.no_grad():
        network.weight[:] = torch.tensor([[0.0], [slope]])
        network.bias[:] = torch.tensor([0.0, offset])
    return network.eval()


COPIES = [line(20.0, -10.0), line(20.0, -9.0)]  # boundary near 0.5
CLEAN = [line(20.0, -15.0), line(20.0, -16.0)]  # boundary near 0.75 and 0.8


def test_inputs_end_between_the_boundaries():
    start = torch.linspace(0, 1, 11)[:, None]
    moved = confer(start, 1, COPIES, CLEAN, (0.0, 1.0), Conferring(steps=60, step=0.025))
    assert bool(((moved > 0.5) & (moved < 0.75)).all())
    for network in COPIES:
        assert network(moved).argmax(1).tolist() == [1] * 11
    for network in CLEAN:
        assert network(moved).argmax(1).tolist() == [0] * 11


def test_steps_are_bounded_and_stay_in_range():
    start = torch.rand(40, 1, generator=torch.Generator().manual_seed(0))
    how = Conferring(steps=5, step=0.02)
    moved = confer(start, 1, COPIES, CLEAN, (0.0, 1.0), how)
    assert float((moved - start).abs().max()) <= 5 * 0.02 + 1e-6
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert torch.equal(confer(start, 1, COPIES, CLEAN, (0.0, 1.0), Conferring(steps=0)), start)
    wide = confer(10 * start, 1, COPIES, CLEAN, (0.0, 10.0), how)  # steps are shares of the range
    assert float((wide - 10 * start).abs().max()) > 0.5


def test_margins_are_of_the_worst_on_both_sides():
    x = torch.tensor([[0.6], [0.9]])
    odds = [20 * x[:, 0] - 10, 20 * x[:, 0] - 15]  # of two classes, the logits' difference
    assert torch.allclose(margins(x, 1, COPIES, CLEAN), odds[0] - odds[1], atol=1e-3)
    assert (margins(x, 1, CLEAN, COPIES) < 0).all()
    assert margins(x[:0], 1, COPIES, CLEAN).shape == (0,)


def test_refusals():
    x = torch.zeros(2, 1)
    for thieves, nulls in (([], CLEAN), (COPIES, [])):
        with pytest.raises(InvalidInput, match="needs both"):
            confer(x, 1, thieves, nulls, (0.0, 1.0))
        with pytest.raises(InvalidInput, match="needs both"):
            margins(x, 1, thieves, nulls)
    with pytest.raises(InvalidInput, match="finite"):
        confer(x, 1, COPIES, CLEAN, (0.0, float("inf")))
    for wrong in ({"steps": -1}, {"step": 0.0}, {"confidence": 0.0}, {"members": 0}):
        with pytest.raises(InvalidInput):
            Conferring(**wrong)
