"""Candidate sets, looks at the answers so far, and the exact p-values that follow from them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import EvidenceTampered, InvalidInput
from assay.evidence import Evidence
from assay.evidence.watermarks import BadNets
from assay.evidence.watermarks.keys import (
    draw_choices,
    draw_key,
    key_targets,
    queries_needed,
    randomisation_p_value,
)
from assay.evidence.watermarks.looks import binomial_looks, plan_looks, smallest_p_value
from assay.model import Access
from assay.statistics import binomial_test, group_sequential, uniformity

X = torch.arange(6.0).reshape(2, 3)


class Answers:
    """A suspect that answers from a table, row by row as asked."""

    access, digest, name, input_shape = Access.LABELS, "table", "table", (3,)

    def __init__(self, table, classes):
        self.table, self.num_classes, self.asked = table, classes, 0

    def labels(self, x):
        start, self.asked = self.asked, self.asked + len(x)
        return self.table[start : self.asked]


def evidence(key, choices, triggers, classes=10, stop_early=True):
    marks = len(choices)
    x = torch.rand(triggers, 3, generator=torch.Generator().manual_seed(1))
    facts = {
        "input_shape": [3],
        "classes": [str(c) for c in range(classes)],
        "value_range": [0.0, 1.0],
        "marks": marks,
        "key": draw_key(key),
        "choices": choices,
    }
    tensors = {"triggers": x, "mark": torch.arange(triggers) % marks}
    return Evidence(BadNets(stop_early=stop_early), tensors, facts, "0" * 64)


def targets_of(made):
    tensors, facts = made.tensors, made.facts
    drawn = draw_choices(facts["key"], tensors["triggers"], facts["choices"])
    return torch.from_numpy(drawn)[tensors["mark"]]


# --- drawing ---------------------------------------------------------------------------


def test_targets_over_all_classes_are_what_they_always_were():
    assert key_targets(draw_key(5), X, 8, 10).tolist() == [3, 0, 2, 0, 0, 5, 7, 4]


def test_drawn_targets_are_uniform_over_their_candidates():
    choices = [[1, 5], [0, 2, 7], [3], [9, 8, 4, 6]]
    drawn = np.stack([draw_choices(draw_key(k), X, choices) for k in range(3000)])
    for column, candidates in zip(drawn.T, choices, strict=True):
        shares = [np.mean(column == c) for c in candidates]
        assert np.allclose(shares, 1 / len(candidates), atol=0.04)
    first, second = (drawn[:, j] == choices[j][0] for j in (0, 1))
    assert abs(np.mean(first & second) - 1 / 6) < 0.03  # independent of each other


def test_targets_depend_on_everything_committed():
    choices = [[1, 5, 6, 7]] * 20
    first = draw_choices(draw_key(1), X, choices)
    assert np.array_equal(first, draw_choices(draw_key(1), X.clone(), tuple(map(tuple, choices))))
    for key, x, others in [(2, X, choices), (1, X + 1, choices), (1, X, [[7, 6, 5, 1]] * 20)]:
        assert not np.array_equal(first, draw_choices(draw_key(key), x, others))


# --- the level -------------------------------------------------------------------------


def test_level_is_exact_by_enumeration_of_candidates():
    rng = np.random.default_rng(3)
    for choices in ([[0, 1], [1, 2], [0, 2, 3]], [[2], [0, 3], [1, 0]], [[0, 1, 2, 3]] * 3):
        counts = rng.integers(0, 5, (3, 4))
        keys = [np.array(k) for k in itertools.product(*choices)]
        sums = np.array([sum(counts[j, t] for j, t in enumerate(key)) for key in keys])
        p = np.array([randomisation_p_value(counts, key, choices) for key in keys])
        np.testing.assert_allclose(p, (sums[None, :] >= sums[:, None]).mean(1), rtol=1e-15)
        assert all((p <= alpha).mean() <= alpha + 1e-12 for alpha in p)


def test_all_classes_as_candidates_change_nothing():
    counts = np.random.default_rng(0).integers(0, 4, (5, 6))
    targets = np.array([0, 1, 2, 3, 4])
    assert randomisation_p_value(counts, targets) == randomisation_p_value(counts, targets, [range(6)] * 5)


def test_stopping_early_keeps_the_level_by_enumeration():
    # Every key, every stopping: the share of keys that ever cross their line is at most alpha.
    rng = np.random.default_rng(1)
    for _ in range(3):
        choices = [[0, 1], [0, 1, 2], [1, 2], [0, 2], [0, 1], [1, 2]]
        mark = np.arange(18) % 6
        answers = rng.integers(0, 3, 18)
        answers[rng.random(18) < 0.5] = 0
        looks = plan_looks(18, [len(c) for c in choices], 0.05)
        assert len(looks) > 1
        p = []
        for key in itertools.product(*choices):
            seen = []
            for look in looks:
                counts = np.zeros((6, 3), dtype=np.int64)
                np.add.at(counts, (mark[: look.queries], answers[: look.queries]), 1)
                seen.append(randomisation_p_value(counts, np.array(key), choices))
            p.append(group_sequential(seen, [look.weight for look in looks]))
        p = np.array(p)
        for alpha in (0.02, 0.05, 0.1, 0.3):
            assert (p <= alpha).mean() <= alpha


def test_decoys_of_candidates_are_super_uniform_for_any_suspect():
    choices = [[j % 10, (j + 3) % 10, (j + 4) % 10] for j in range(12)]
    made, rng = evidence(1, choices, 48), np.random.default_rng(2)
    p = []
    for suspect in range(6):
        table = torch.from_numpy(rng.integers(0, 10, 48) if suspect else np.full(48, 3))
        p += [d.verify(Answers(table, 10)).p_value for d in made.decoys(40, rng=suspect)]
    assert uniformity(p).p_value > 0.001


# --- looks -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.lists(st.integers(1, 12), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.05, 0.01, 1e-4, 1e-9]),
)
def test_looks_are_a_plan(queries, sizes, alpha):
    looks = plan_looks(queries, sizes, alpha)
    assert [look.queries for look in looks] == sorted({look.queries for look in looks})
    assert looks[-1].queries == queries
    assert sum(look.weight for look in looks) == pytest.approx(1.0)
    if queries_needed(alpha, sizes) <= min(queries, len(sizes)):
        assert all(smallest_p_value(look, sizes) <= alpha for look in looks)
    if len(looks) > 1:
        assert looks[-1].weight > 0.5


def test_a_strong_mark_needs_few_queries():
    choices = [[j % 10, (j + 2) % 10, (j + 5) % 10] for j in range(20)]
    rng, queries = np.random.default_rng(0), []
    for key in range(100):
        made = evidence(key, choices, 100)
        kept = torch.from_numpy(rng.random(100) < 0.9)
        table = torch.where(kept, targets_of(made), torch.from_numpy(rng.integers(0, 10, 100)))
        verdict = made.verify(Answers(table, 10), alpha=0.05)
        assert verdict.details["triggers_saved"] == 100 - verdict.queries
        queries.append(verdict.queries if verdict.stolen else math.inf)
    assert np.quantile(queries, 0.95) <= 20
    assert np.median(queries) == 8


def test_no_early_stop_asks_everything_once():
    made = evidence(3, [[0, 1]] * 10, 30, stop_early=False)
    verdict = made.verify(Answers(targets_of(made), 10))
    assert verdict.queries == 30
    assert verdict.p_value == 2**-10
    assert verdict.details["looks"] == [{"queries": 30, "weight": 1.0, "matches": 30}]


def test_chance_and_effect_with_candidates():
    made = evidence(3, [[0, 1], [2, 3, 4]], 30, stop_early=False)
    verdict = made.verify(Answers(torch.zeros(30, dtype=torch.int64), 10), alpha=0.5)
    assert verdict.details["decoy_match_rate"] == pytest.approx(0.25)  # of the first mark's answers, half
    assert np.mean(verdict.samples["decoys"]) == pytest.approx(0.25, abs=0.03)
    assert verdict.details["secret_bits"] == pytest.approx(math.log2(6))
    assert verdict.details["commonest_answer_rate"] == 1.0


def test_companion_pays_for_the_looks():
    looks = [{"queries": 8, "weight": 0.2, "matches": 6}, {"queries": 16, "weight": 0.8, "matches": 7}]
    first = binomial_test(6, 8, 0.3).p_value / 0.2
    assert binomial_looks(looks, 0.3).p_value == pytest.approx(first)


# --- refusals --------------------------------------------------------------------------


def test_candidates_too_few_for_the_level():
    with pytest.raises(InvalidInput, match="at least 7 marks"):
        evidence(0, [[0, 1]] * 6, 12).verify(Answers(torch.zeros(12, dtype=torch.int64), 10))


@pytest.mark.parametrize(
    "choices",
    [
        [[0, 1]],
        [[], [0]],
        [[0, 0], [1]],
        [[0, 10], [1]],
        [[0, -1], [1]],
        [[0.0, 1], [1]],
        [["0"], [1]],
        [3, 4],
    ],
)
def test_malformed_candidates_are_refused(choices):
    made = evidence(0, [[0, 1], [1, 2]], 8)
    suspect = Answers(torch.zeros(8, dtype=torch.int64), 10)
    changed = Evidence(made.scheme, made.tensors, {**made.facts, "choices": choices})
    with pytest.raises(EvidenceTampered):
        changed.verify(suspect, alpha=0.5)
    assert suspect.asked == 0


def test_queries_needed_with_candidates():
    assert queries_needed(0.01, [2] * 7) == 7
    assert queries_needed(0.01, [2] * 6) == 7  # one more than there are: not reachable
    assert queries_needed(0.01, [1, 10, 10]) == 3
