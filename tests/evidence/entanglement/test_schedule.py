"""Marked batches come when they are due, and every row gets its turn."""

import pytest
import torch

from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.schedule import Schedule, Turns


@pytest.mark.parametrize(("ratio", "ordinary"), [(1.2, 12), (0.5, 5), (4, 40), (1, 10), (2.5, 25)])
def test_ten_marked_batches_take_so_many_ordinary_ones(ratio, ordinary):
    plan = Schedule(ratio)
    assert plan.due(ordinary) == 10
    assert plan.due(ordinary - 1) < 10
    assert Schedule(ratio, warm_up=7).due(ordinary + 7) == 10
    assert Schedule(ratio, warm_up=7).due(7) == 0


def test_no_batch_is_lost_to_binary_fractions():
    for tenths in range(1, 60):
        plan = Schedule(tenths / 10)
        assert plan.due(tenths * 10) == 100


@pytest.mark.parametrize(
    ("ratio", "warm_up"), [(0, 0), (-1, 0), (float("inf"), 0), (float("nan"), 0), (1, -1)]
)
def test_bad_schedules(ratio, warm_up):
    with pytest.raises(InvalidInput, match="ratio"):
        Schedule(ratio, warm_up)


@pytest.mark.parametrize("count", [1, 7, 64, 250])
def test_every_row_is_used_as_often_as_any_other(count):
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(100) * 3
    turns = Turns(rows)
    used = torch.cat([turns.take(count, generator) for _ in range(13)])
    often = used.bincount(minlength=300)[rows]
    assert int(often.max() - often.min()) <= 1
    assert set(used.tolist()) <= set(rows.tolist())


def test_rounds_are_shuffled():
    generator = torch.Generator().manual_seed(0)
    turns = Turns(torch.arange(50))
    assert turns.take(50, generator).tolist() != turns.take(50, generator).tolist()
    with pytest.raises(InvalidInput, match="no rows"):
        Turns(torch.arange(0))
