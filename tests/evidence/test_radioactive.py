"""Radioactive data: the direction shows in the scores, and the null distribution is exact."""

from __future__ import annotations

import itertools
from functools import partial

import marked_digits
import numpy as np
import pytest
import torch
from marked_digits import accuses_nobody_else, refuses
from scipy import stats

from assay.data.embedded import breast_cancer
from assay.errors import AccessDenied, BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence import Evidence
from assay.evidence.watermarks.carriers import Space, _sign_p_value, carriers, paired_losses
from assay.evidence.watermarks.keys import draw_key
from assay.evidence.watermarks.radioactive import Radioactive
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import Recipe
from assay.registry import create
from assay.statistics import uniformity
from assay.testing.evidence import check_evidence

torch.set_num_threads(1)
FAST = Recipe(epochs=20, optimizer="adam", lr=3e-3, weight_decay=0.0)
OWN = 1000
parts = partial(marked_digits.parts, OWN)
marked = partial(marked_digits.marked, Radioactive(), FAST, OWN)
independent = partial(marked_digits.independent, FAST, OWN)


def test_conformance():
    made = marked()
    check_evidence(Radioactive(), made.evidence, [made.unmarked, independent()], made.model, pairs=60)


def test_the_mark_shows_and_costs_little():
    made = marked()
    verdict = made.evidence.verify(made.model)
    assert verdict.p_value < 1e-5
    assert verdict.effect.low > 0.05
    assert verdict.companions[0].test == "carrier-loss"
    assert verdict.companions[0].p_value < 0.05
    assert verdict.queries == 800
    assert made.record.unmarked_accuracy.value - made.record.accuracy.value < 0.04


def test_negative_controls():
    made = marked()
    somebody_elses_key = marked(1).evidence
    accuses_nobody_else(made, (made.unmarked, independent()), rng=1, foreign=[somebody_elses_key])


def test_level_of_the_loss_test():
    made, scheme = marked(), Radioactive(steps=3)
    rows, probes = parts()[2].subset(range(50)), made.evidence.tensors["probes"]
    space = Space.of(made.unmarked.module, parts()[0].x, 32)
    p_values = []
    for number in range(120):
        drawn = [carriers(draw_key(number), probes, 10, space.width, way) for way in ("secret", "other")]
        secret, other = (scheme._shift(space, rows.x, way[rows.y], rows) for way in drawn)
        along = {"pair_class": rows.y, "along_secret": secret, "along_other": other}
        evidence = Evidence(scheme, along, made.evidence.facts)
        p_values.append(paired_losses(evidence, Ledger(independent(), Access.SCORES))[0].p_value)
    assert uniformity(p_values).p_value > 0.001


class Answers:
    """A suspect that answers by a rule of its own."""

    access, digest, name, input_shape, num_classes = Access.SCORES, "rule", "rule", (1, 8, 8), 10

    def __init__(self, rule):
        self.rule = rule

    def scores(self, x):
        return torch.softmax(self.rule(x), 1)


def test_level_for_strange_suspects():
    plane = torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
    rules = (
        lambda x: x.flatten(1) @ plane,
        lambda x: torch.sin(9 * x.flatten(1) @ plane),
        lambda x: 50 * torch.eye(10)[(x.flatten(1).sum(1) * 7).long() % 10],
    )
    for rule in rules:
        p_values = [d.verify(Answers(rule)).p_value for d in marked().evidence.decoys(60, rng=4)]
        assert uniformity(p_values).p_value > 0.001
    assert marked().evidence.verify(Answers(lambda x: torch.zeros(len(x), 10))).p_value == 1.0


def test_one_direction_has_the_beta_law():
    drawn = torch.cat([carriers(draw_key(k), torch.zeros(1, 2), 10, 7, "secret") for k in range(200)])
    tails = stats.beta.sf((1 + drawn[:, 3].numpy()) / 2, 3, 3)
    assert stats.kstest(tails, "uniform").pvalue > 0.001
    assert torch.allclose(drawn.norm(dim=1), torch.ones(2000), atol=1e-5)
    assert not torch.equal(drawn[:10], carriers(draw_key(0), torch.ones(1, 2), 10, 7, "secret"))


def test_signs_are_counted_like_all_patterns():
    totals = np.array([0.5, -0.2, 1.0, 0.1])
    sums = [np.dot(signs, totals) for signs in itertools.product((-1, 1), repeat=4)]
    assert _sign_p_value(totals) == np.mean(np.array(sums) >= totals.sum() - 1e-9)
    many = np.random.default_rng(0).normal(size=(300, 17))
    assert uniformity([_sign_p_value(one) for one in many]).p_value > 0.001
    assert _sign_p_value(np.ones(20)) == pytest.approx(1e-4)


def test_rows_move_along_their_direction_within_reach():
    network, rows = independent().module, parts()[2]
    space = Space.of(network, rows.x, 8)
    ways = torch.nn.functional.normalize(torch.randn(len(rows), space.width), dim=1)
    moved = Radioactive(reach=0.1)._shift(space, rows.x, ways, rows)
    assert float((moved - rows.x).abs().max()) <= 0.1 + 1e-6
    gains = ((space(moved) - space(rows.x)) * ways).sum(1)
    assert float((gains > 0).float().mean()) > 0.99
    assert torch.allclose(space(rows.x).std(0), torch.ones(space.width), atol=0.05)


def test_budget_access_and_tampering():
    made = marked()
    assert made.evidence.verify(made.model, budget=300).queries == 300
    with pytest.raises(BudgetExceeded, match="at least"):
        made.evidence.verify(made.model, budget=20)
    with pytest.raises(AccessDenied):
        made.evidence.verify(made.model.restricted("labels"))
    for broken in ({"features": torch.zeros(3, 2)}, {"guide": None}, {"pair_class": torch.zeros(1)}):
        tensors = {k: v for k, v in {**made.evidence.tensors, **broken}.items() if v is not None}
        with pytest.raises(EvidenceTampered):
            Evidence(Radioactive(), tensors, made.evidence.facts).verify(made.model)


def test_bad_input():
    with pytest.raises(InvalidInput, match="shape or classes"):
        Radioactive().embed(parts()[0], architecture="mlp-8", recipe=FAST, evaluation=breast_cancer())
    refuses(Radioactive, share=0.0, reach=0.0, steps=0, dimensions=1, probes=10, pairs=-1)


def test_built_by_name():
    assert create("radioactive", "evidence", {"pairs": "0"}) == Radioactive(pairs=0)
