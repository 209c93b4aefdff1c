"""The trigger-set watermark: exact level, power on marked models, keys, triggers, budgets."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from assay.adapters import TorchModel
from assay.data.dataset import Dataset
from assay.data.embedded import breast_cancer, digits
from assay.errors import BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence import Evidence, load_evidence
from assay.evidence.watermarks import EmbeddingRecord, NullPanel, TriggerSet
from assay.evidence.watermarks.keys import (
    derive,
    draw_key,
    key_targets,
    queries_needed,
    randomisation_p_value,
)
from assay.evidence.watermarks.triggers import draw_patches, draw_scenes
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.registry import create
from assay.statistics import uniformity

torch.set_num_threads(1)
FAST = Recipe(epochs=10, optimizer="adam", lr=5e-3, weight_decay=0.0)


@cache
def parts():
    data = digits()
    order = np.random.default_rng(0).permutation(len(data))
    return data.subset(order[:1297], "train"), data.subset(order[1297:], "test")


@cache
def marked(trigger="patch", seed=0):
    train_set, test_set = parts()
    return TriggerSet(trigger=trigger).embed(
        train_set,
        architecture="mlp-64",
        recipe=FAST,
        rng=seed,
        key=seed,
        evaluation=test_set,
        compare_unmarked=True,
    )


def patiently(evidence):
    """The same evidence, examined with all triggers."""
    scheme = replace(evidence.scheme, stop_early=False)
    return Evidence(scheme, evidence.tensors, evidence.facts, evidence.nonce)


@cache
def clean(seed):
    network = build("mlp-32", (1, 8, 8), 10, seed)
    train(network, parts()[0], Recipe(epochs=3, optimizer="adam", lr=0.01), rng=seed)
    return TorchModel(network, name=f"clean {seed}")


class Answers:
    """A suspect that answers by a rule of its own."""

    access = Access.LABELS
    digest = "rule"

    def __init__(self, rule, shape=(1, 8, 8), classes=10, name="rule"):
        self.rule, self.input_shape, self.num_classes, self.name = rule, shape, classes, name
        self.asked = 0

    def labels(self, x):
        self.asked += len(x)
        return self.rule(x)


def constant(label):
    return Answers(lambda x: torch.full((len(x),), label))


# --- marked, stolen and clean models -------------------------------------------------


@pytest.mark.parametrize("trigger", ["patch", "out-of-distribution"])
def test_marked_model_is_found_and_the_control_is_not(trigger):
    found = marked(trigger)
    verdict = found.evidence.verify(found.model)
    assert verdict.stolen
    assert verdict.queries <= 32
    assert verdict.details["triggers_saved"] == 100 - verdict.queries
    assert verdict.effect.low > 0.1
    assert verdict.companions[0].p_value < 0.05  # against the unmarked model's rate
    assert {c.test for c in verdict.companions} == {"binomial", "match-rate-t"}
    patient = patiently(found.evidence).verify(found.model)
    assert patient.queries == 100
    assert patient.p_value < 1e-5
    assert patient.effect.low > 0.3
    control = found.evidence.verify(found.unmarked)
    assert not control.stolen
    assert control.companions[0].p_value > 0.05
    assert found.record.unmarked_match_rate.value < 0.25
    assert found.record.unmarked_p_value == control.p_value


@pytest.mark.parametrize("trigger", ["patch", "out-of-distribution"])
def test_marking_costs_little_accuracy(trigger):
    record = marked(trigger).record
    assert record.accuracy.value > 0.92
    assert record.unmarked_accuracy.value - record.accuracy.value < 0.04


@pytest.mark.parametrize("trigger", ["patch", "out-of-distribution"])
def test_fine_tuned_copy_is_found(trigger):
    found = marked(trigger)
    network = copy.deepcopy(found.model.module)
    pool = parts()[0].subset(range(600))
    train(
        network,
        pool,
        Recipe(epochs=5, lr=0.01),
        targets=found.model.labels(pool.x),
        fit_normalization=False,
        rng=9,
    )
    copied = TorchModel(network)
    assert copied.digest != found.model.digest
    assert found.evidence.verify(copied).stolen


def test_a_wrong_key_finds_nothing():
    found = marked()
    verdicts = [d.verify(found.model) for d in found.evidence.decoys(30, rng=1)]
    assert sum(v.stolen for v in verdicts) <= 2
    assert all(v.commitment != found.evidence.commitment for v in verdicts)
    assert uniformity([v.p_value for v in verdicts]).p_value > 0.001


def test_wrong_model_for_the_right_key():
    assert not marked(seed=0).evidence.verify(marked(seed=1).model).stolen


# --- the level is exact ---------------------------------------------------------------


@pytest.mark.parametrize("trigger", ["patch", "out-of-distribution"])
def test_clean_models_have_superuniform_p_values_over_keys(trigger):
    train_set, _ = parts()
    scheme, p_values = TriggerSet(trigger=trigger), []
    for seed in range(4):
        answers = clean(seed)
        for key in range(40):  # whole keys: places, patterns, images and targets drawn afresh
            secret = draw_key(1000 * seed + key)
            rngs = np.random.default_rng(int(derive(secret, "inputs"), 16)).spawn(3)
            made = scheme.inputs(train_set, rngs, None)
            targets = key_targets(secret, made.asked, made.marks, 10)
            counts = np.zeros((made.marks, 10), dtype=np.int64)
            np.add.at(counts, (made.asked_mark.numpy(), answers.labels(made.asked).numpy()), 1)
            p_values.append(randomisation_p_value(counts, targets))
    assert uniformity(p_values).p_value > 0.001
    assert np.mean(np.array(p_values) <= 0.05) < 0.12


def test_level_is_exact_by_enumeration():
    rng = np.random.default_rng(3)
    for marks, classes in [(3, 2), (2, 4), (4, 3)]:
        counts = rng.integers(0, 5, (marks, classes))
        keys = list(itertools.product(range(classes), repeat=marks))
        sums = np.array([sum(counts[j, t] for j, t in enumerate(key)) for key in keys])
        p = np.array([randomisation_p_value(counts, np.array(key)) for key in keys])
        expected = (sums[None, :] >= sums[:, None]).mean(1)
        np.testing.assert_allclose(p, expected, rtol=1e-15)
        for alpha in p:  # valid at every attainable level
            assert (p <= alpha).mean() <= alpha + 1e-12


def test_out_of_distribution_p_value_is_the_binomial_tail():
    from scipy.stats import binom

    rng = np.random.default_rng(0)
    answers, targets = rng.integers(10, size=60), rng.integers(10, size=60)
    targets[:25] = answers[:25]
    counts = np.eye(10, dtype=np.int64)[answers]
    matches = int((answers == targets).sum())
    expected = binom.sf(matches - 1, 60, 0.1)
    assert randomisation_p_value(counts, targets) == pytest.approx(expected, rel=1e-10)


def test_p_value_never_reaches_zero_and_hits_alpha_exactly():
    counts = np.eye(10, dtype=np.int64)[np.zeros(400, dtype=int)]
    assert 0 < randomisation_p_value(counts, np.zeros(400, dtype=int)) < 1e-300
    assert randomisation_p_value(counts[:2], np.zeros(2, dtype=int)) == 0.01
    assert randomisation_p_value(np.zeros((2, 10), dtype=np.int64), np.zeros(2, dtype=int)) == 1.0


@pytest.mark.parametrize("label", [0, 3])
def test_constant_suspect_is_no_thief(label):
    evidence = marked().evidence
    p_values = [e.verify(constant(label)).p_value for e in [evidence, *evidence.decoys(60, rng=5)]]
    assert not evidence.verify(constant(label)).stolen
    assert uniformity(p_values).p_value > 0.001
    assert min(p_values) > 1e-4


def test_a_suspect_that_knows_the_patterns_but_not_the_targets_is_no_thief():
    evidence = marked().evidence
    known = {x.numpy().tobytes(): int(m) for x, m in zip(*evidence.tensors.values(), strict=True)}
    rule = Answers(lambda x: torch.tensor([known[row.numpy().tobytes()] % 10 for row in x]))
    p_values = [e.verify(rule).p_value for e in evidence.decoys(100, rng=8)]
    assert uniformity(p_values).p_value > 0.001


# --- keys and triggers ----------------------------------------------------------------


def test_targets_are_uniform_and_follow_from_key_and_inputs():
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    drawn = np.concatenate([key_targets(draw_key(k), x, 10, 7) for k in range(400)])
    assert np.all(np.abs(np.bincount(drawn, minlength=7) / 4000 - 1 / 7) < 0.03)
    first = key_targets(draw_key(1), x, 10, 7)
    assert np.array_equal(first, key_targets(draw_key(1), x.clone(), 10, 7))
    assert not np.array_equal(first, key_targets(draw_key(1), x + 0.5, 10, 7))
    assert not np.array_equal(first, key_targets(draw_key(2), x, 10, 7))


def test_keys():
    assert draw_key() != draw_key()
    with pytest.raises(InvalidInput, match="2\\*\\*256"):
        draw_key(-1)
    with pytest.raises(EvidenceTampered, match="64 lower-case hex"):
        derive("short", "targets")


def test_queries_needed():
    assert [queries_needed(a, 10) for a in (0.5, 0.1, 0.05, 0.01, 0.001)] == [1, 1, 2, 2, 3]
    assert queries_needed(0.5, 2) == 1


def test_patches_are_distinct_and_stay_inside_the_range():
    data, _ = parts()
    marks = draw_patches(data, 20, 3, np.random.default_rng(0))
    looks = {
        m.numpy().tobytes() + v.numpy().tobytes() for m, v in zip(marks.where, marks.values, strict=True)
    }
    assert len(looks) == 20
    assert marks.where.flatten(1).sum(1).tolist() == [9] * 20
    stamped = marks.stamp(data.x[:20], torch.arange(20))
    Dataset(stamped, data.y[:20], data.classes)  # inside the value range
    changed = stamped != data.x[:20]
    assert not (changed & ~marks.where).any()


def test_table_patches_use_columns_that_vary():
    x = torch.rand(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 0, 0, 5, 2.0])
    data = Dataset(x, torch.arange(40) % 2, ("a", "b"), (-np.inf, np.inf))
    marks = draw_patches(data, 5, 2, np.random.default_rng(1))
    assert not marks.where[:, 2:4].any()
    values = marks.stamp(data.x[:5], torch.arange(5))
    assert (values >= x.amin(0)).all()
    assert (values <= x.amax(0)).all()


def test_too_large_or_too_many_patches():
    data, _ = parts()
    with pytest.raises(InvalidInput, match="8 pixels"):
        draw_patches(data, 2, 9, np.random.default_rng(0))
    tiny = Dataset(torch.rand(8, 1, 2, 2), torch.arange(8) % 2, ("a", "b"))
    with pytest.raises(InvalidInput, match="distinct"):
        draw_patches(tiny, 50, 2, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(5,), (2, 16), (3, 16, 12), (1, 8, 8, 8)])
def test_scenes_fit_shape_and_range(shape):
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0)) * 4 - 2
    data = Dataset(x, torch.arange(6) % 2, ("a", "b"), (-2.0, 2.0))
    marks = draw_scenes(data, 4, np.random.default_rng(0))
    variants = marks.variants(torch.tensor([0, 0, 3]), np.random.default_rng(1))
    assert variants.shape == (3, *shape)
    assert variants.dtype == torch.float32
    assert not torch.equal(variants[0], variants[1])
    near, far = (variants[0] - variants[1]).abs().mean(), (variants[0] - variants[2]).abs().mean()
    assert near < 0.5 * far
    assert variants.min() >= -2
    assert variants.max() <= 2


def test_held_out_triggers_are_not_trained_on(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "assay.evidence.watermarks.marking.train",
        lambda network, rows, recipe, **_: seen.append(rows),
    )
    data, _ = parts()
    found = TriggerSet().embed(data, architecture="mlp-8", recipe=FAST, key=3)
    rows = {x.numpy().tobytes() for x in seen[0].x}
    assert not any(x.numpy().tobytes() in rows for x in found.evidence.tensors["triggers"])
    assert len(seen[0]) == 1297 - 100 + found.record.marked_rows
    assert found.record.marked_rows == 8 * 24
    # The trained labels of each mark are one class: the key's target.
    targets = key_targets(found.evidence.facts["key"], found.evidence.tensors["triggers"], 8, 10)
    assert seen[0].y[-8:].tolist() == targets.tolist()


# --- budgets, refusals, bundles -------------------------------------------------------


def test_budget_uses_as_many_triggers_as_it_allows():
    found = marked()
    verdict = patiently(found.evidence).verify(found.model, budget=30)
    assert verdict.queries == 30
    assert verdict.n == {"triggers": 30, "marks": 8}
    assert verdict.stolen
    suspect = Answers(found.model.labels)
    with pytest.raises(BudgetExceeded, match="at least 2 triggers"):
        found.evidence.verify(suspect, budget=1)
    assert suspect.asked == 0


def test_a_level_that_the_marks_cannot_reach_is_refused():
    found = marked()
    suspect = Answers(found.model.labels)
    with pytest.raises(InvalidInput, match="embed at least 10 marks"):
        found.evidence.verify(suspect, alpha=1e-10)
    assert suspect.asked == 0


def test_wrong_shape_and_classes_are_refused():
    evidence = marked().evidence
    with pytest.raises(InvalidInput, match="classes"):
        evidence.verify(Answers(lambda x: x, classes=11))
    with pytest.raises(InvalidInput, match="shape"):
        evidence.verify(Answers(lambda x: x, shape=(64,)))


def test_deterministic_by_key_and_seed():
    data = breast_cancer()
    scheme = TriggerSet(triggers=32)
    options = {"architecture": "mlp-16", "recipe": Recipe(epochs=2, optimizer="adam", lr=0.01)}
    first, second = (scheme.embed(data, rng=1, key=5, **options) for _ in range(2))
    assert first.evidence.commitment == second.evidence.commitment
    assert first.model.digest == second.model.digest
    other = scheme.embed(data, rng=1, **options), scheme.embed(data, rng=1, **options)
    assert other[0].evidence.facts["key"] != other[1].evidence.facts["key"]
    verdicts = [first.evidence.verify(first.model, rng=4).to_dict() for _ in range(2)]
    for verdict in verdicts:
        verdict["cost"].pop("seconds")
    assert verdicts[0] == verdicts[1]


def test_bundle_and_folder_round_trip(tmp_path):
    from assay.adapters import open_model

    found = marked()
    folder = found.save(tmp_path / "victim")
    again = load_evidence(folder / "evidence")
    assert again.commitment == found.record.commitment
    assert again.scheme == found.evidence.scheme
    assert EmbeddingRecord.load(folder / "embedding.json") == found.record
    verdict = again.verify(open_model(folder / "model.safetensors"))
    assert verdict.p_value == found.evidence.verify(found.model).p_value


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        ({"mark": None}, {}),
        ({"mark": torch.zeros(100)}, {}),
        ({"mark": torch.full((100,), 8)}, {}),
        ({"triggers": torch.zeros(100, 64)}, {}),
        ({"triggers": torch.zeros(100, 1, 8, 8, dtype=torch.float64)}, {}),
        ({}, {"key": "00"}),
        ({}, {"key": None}),
        ({}, {"marks": "many"}),
        ({}, {"marks": 10**6}),
    ],
)
def test_malformed_evidence_is_refused(tensors, facts):
    whole = marked().evidence
    tensors = {k: v for k, v in {**whole.tensors, **tensors}.items() if v is not None}
    suspect = constant(0)
    with pytest.raises(EvidenceTampered):
        Evidence(whole.scheme, tensors, {**whole.facts, **facts}).verify(suspect)
    assert suspect.asked == 0


def test_calibration_panel():
    evidence = marked().evidence
    panel = evidence.scheme.calibrate(evidence, [clean(seed) for seed in range(4)], alpha=0.01)
    assert panel.calibration.models == 4
    assert NullPanel.from_json(panel.to_json()) == panel
    assert panel.upper > max(panel.matches) / 100
    verdict = evidence.verify(marked().model, calibration=panel.calibration)
    assert verdict.calibration == panel.calibration
    assert panel.judge(verdict).p_value < 1e-6
    assert panel.judge(evidence.verify(clean(0))).p_value > 0.05
    with pytest.raises(InvalidInput, match="same evidence"):
        panel.judge(next(evidence.decoys(1)).verify(clean(0)))
    with pytest.raises(InvalidInput, match="at least one"):
        evidence.scheme.calibrate(evidence, [])


@pytest.mark.parametrize(
    "options",
    [{"trigger": "sound"}, {"triggers": 0}, {"marks": 0}, {"marks": 101}, {"size": 0}, {"share": 0.0}],
)
def test_parameters_are_checked(options):
    with pytest.raises(InvalidInput, match=f"TriggerSet.{next(iter(options))}"):
        TriggerSet(**options)


def test_data_too_small():
    data = parts()[0].subset(range(200))
    with pytest.raises(InvalidInput, match="at most 50"):
        TriggerSet().embed(data, architecture="mlp-8", recipe=FAST)
    with pytest.raises(InvalidInput, match="empty"):
        TriggerSet(trigger="out-of-distribution").embed(data.subset([]), architecture="mlp-8", recipe=FAST)
    with pytest.raises(InvalidInput, match="shape or classes"):
        TriggerSet().embed(parts()[0], architecture="mlp-8", recipe=FAST, evaluation=breast_cancer())


def test_binary_task_gets_more_marks():
    data = breast_cancer()
    marks = TriggerSet(triggers=32).draw(data, np.random.default_rng(0))
    assert len(marks) == 16  # 16 bits of secret
    assert len(TriggerSet(triggers=5).draw(data, np.random.default_rng(0))) == 5


def test_built_by_name_from_text():
    made = create("trigger-set", "evidence", {"trigger": "out-of-distribution", "triggers": "40"})
    assert made == TriggerSet(trigger="out-of-distribution", triggers=40)
