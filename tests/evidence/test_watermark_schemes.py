"""Watermarks of added rows: what they look like, what they prove, and what they must not claim."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from assay.adapters import TorchModel
from assay.data.dataset import Dataset
from assay.data.embedded import breast_cancer, digits
from assay.errors import InvalidInput
from assay.evidence import Evidence
from assay.evidence.watermarks import Adi, BadNets, Content, Noise, NullPanel, TriggerSet, Unrelated
from assay.evidence.watermarks.keys import key_targets
from assay.evidence.watermarks.triggers import unlike
from assay.nets import Recipe, build, train
from assay.registry import create
from assay.statistics import uniformity

torch.set_num_threads(1)
FAST = Recipe(epochs=10, optimizer="adam", lr=5e-3, weight_decay=0.0)
SCHEMES = [Adi, BadNets, Content, Noise, Unrelated]


@cache
def parts():
    data = digits()
    order = np.random.default_rng(0).permutation(len(data))
    return data.subset(order[:1297], "train"), data.subset(order[1297:], "test")


@cache
def marked(kind):
    train_set, test_set = parts()
    return kind().embed(
        train_set, architecture="mlp-64", recipe=FAST, key=3, evaluation=test_set, compare_unmarked=True
    )


def fitted(seed, data, labels=None, architecture="mlp-32"):
    network = build(architecture, data.input_shape, data.num_classes, seed)
    train(network, data, Recipe(epochs=6, optimizer="adam", lr=0.01), targets=labels, rng=seed)
    return TorchModel(network, name=f"model {seed}")


@cache
def clean(seed):
    return fitted(seed, parts()[0])


def generators(seed=0):
    return np.random.default_rng(seed).spawn(3)


# --- what they prove -------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCHEMES)
def test_the_marked_model_is_found_and_the_control_is_not(kind):
    found = marked(kind)
    verdict = found.evidence.verify(found.model)
    assert verdict.stolen
    assert verdict.queries <= 32
    assert not found.evidence.verify(found.unmarked).stolen
    assert found.record.match_rate.value > 0.5
    assert found.record.unmarked_match_rate.value < 0.3
    assert found.record.unmarked_accuracy.value - found.record.accuracy.value < 0.04


@pytest.mark.parametrize("kind", [BadNets, Unrelated])
def test_negative_controls(kind):
    found, own = marked(kind), parts()[0]
    # Somebody else's evidence: another key, with marks and targets of its own.
    other = replace_key(found, kind)
    assert not other.verify(found.model).stolen
    # Wrong targets for the right inputs.
    wrong = [d.verify(found.model) for d in found.evidence.decoys(40, rng=1)]
    assert np.mean([v.stolen for v in wrong]) <= 0.1
    # A model that never saw a mark, stolen by queries; and one trained on true labels.
    unmarked_copy = fitted(7, own, clean(1).labels(own.x))
    assert not found.evidence.verify(unmarked_copy).stolen
    assert not found.evidence.verify(clean(2)).stolen


def replace_key(found, kind):
    data = parts()[0]
    made = kind().inputs(data, generators(99), None)
    tensors = {"triggers": made.asked.contiguous(), "mark": made.asked_mark}
    facts = {**found.evidence.facts, "key": f"{77:064x}", "marks": made.marks}
    return Evidence(kind(), tensors, facts)


@pytest.mark.parametrize("kind", [Adi, BadNets])
@pytest.mark.parametrize("label", [0, 7])
def test_a_collapsed_copy_is_not_called_stolen_and_is_seen(kind, label):
    network = build("mlp-4", (1, 8, 8), 10)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        list(network.parameters())[-1][label] = 1.0
    collapsed = TorchModel(network)
    evidence = marked(kind).evidence
    verdicts = [e.verify(collapsed) for e in [evidence, *evidence.decoys(60, rng=4)]]
    assert verdicts[0].details["commonest_answer_rate"] == 1.0
    assert np.mean([v.stolen for v in verdicts]) <= 0.04


def test_false_claims_over_two_hundred_pairs_of_model_and_key():
    p = []
    for seed in range(5):
        for kind in SCHEMES:
            p += [d.verify(clean(seed)).p_value for d in marked(kind).evidence.decoys(8, rng=seed)]
    assert len(p) == 200
    for alpha in (0.01, 0.05):
        assert np.mean(np.array(p) <= alpha) <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / 200)
    assert uniformity(p).p_value > 0.001


def test_triggers_found_after_the_fact_are_worth_nothing():
    # Whoever searches inputs that a model answers as the key wants changes the targets, and the commitment.
    evidence, suspect = marked(BadNets).evidence, clean(0)
    wanted = torch.from_numpy(key_targets(evidence.facts["key"], evidence.tensors["triggers"], 8, 10))
    pool = parts()[0].x
    answers = suspect.labels(pool)
    mark = evidence.tensors["mark"]
    forged = torch.stack([pool[torch.nonzero(answers == wanted[m])[i // 8, 0]] for i, m in enumerate(mark)])
    assert torch.equal(suspect.labels(forged), wanted[mark])
    claim = Evidence(
        evidence.scheme, {**evidence.tensors, "triggers": forged}, evidence.facts, evidence.nonce
    )
    assert claim.commitment != evidence.commitment
    assert not claim.verify(suspect).stolen


def test_panel_ranks_a_suspect():
    found = marked(BadNets)
    panel = found.evidence.scheme.calibrate(found.evidence, [clean(seed) for seed in range(5)])
    assert NullPanel.from_json(panel.to_json()) == panel
    assert len(panel.p_values) == 5
    assert panel.triggers == 100
    assert panel.rank(found.evidence.verify(found.model)) == pytest.approx(1 / 6)
    assert panel.rank(found.evidence.verify(clean(0))) > 1 / 6
    assert panel.judge(found.evidence.verify(found.model)).p_value < 0.05
    stolen, free = (panel.sequential(found.evidence.verify(m), 0.7) for m in (found.model, clean(0)))
    assert stolen.decision == "match"
    assert stolen.queries <= found.evidence.verify(found.model).queries
    assert free.decision == "none"
    with pytest.raises(InvalidInput, match="no p-values"):
        NullPanel.of(found.evidence.commitment, [1], 100).rank(found.evidence.verify(found.model))
    with pytest.raises(InvalidInput, match="same evidence"):
        panel.rank(marked(Adi).evidence.verify(clean(0)))


# --- how they are made -----------------------------------------------------------------


@pytest.mark.parametrize("kind", [*SCHEMES, TriggerSet])
def test_inputs_follow_from_the_key_and_fit_the_data(kind):
    data = parts()[0]
    made, again = (kind(triggers=40).inputs(data, generators(5), None) for _ in range(2))
    assert torch.equal(made.asked, again.asked)
    assert torch.equal(made.trained, again.trained)
    assert not torch.equal(made.asked, kind(triggers=40).inputs(data, generators(6), None).asked)
    Dataset(made.asked, made.asked_mark % 10, data.classes)  # shape, dtype and range
    Dataset(made.trained, made.trained_mark % 10, data.classes)
    assert made.asked.dtype == torch.float32
    assert len(made.asked) == 40
    assert made.asked_mark.tolist() == [i % made.marks for i in range(40)]
    counts = torch.bincount(made.trained_mark, minlength=made.marks)
    assert counts.min() == counts.max() >= 8
    trained = {row.numpy().tobytes() for row in made.trained}
    held_out = sum(row.numpy().tobytes() not in trained for row in made.asked)
    assert held_out == (0 if kind is Adi else 40)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 16, 24)])
@pytest.mark.parametrize("kind", SCHEMES)
def test_images_of_any_size(kind, shape):
    x = torch.rand(200, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    data = Dataset(x, torch.arange(200) % 10, tuple("abcdefghij"), (-1.0, 1.0))
    made = kind(triggers=20).inputs(data, generators(), None)
    assert made.asked.shape == (20, *shape)
    assert -1 - 1e-6 <= float(made.asked.min()) < float(made.asked.max()) <= 1 + 1e-6


def test_patterns_are_squares_in_corners_of_all_channels():
    x = torch.full((200, 3, 32, 32), 0.5)
    data = Dataset(x, torch.arange(200) % 10, tuple("abcdefghij"))
    made = BadNets(triggers=24).inputs(data, generators(), None)
    changed = made.asked != 0.5
    assert changed.flatten(1).sum(1).tolist() == [4 * 4 * 3] * 24
    assert torch.equal(changed[:, 0], changed[:, 2])
    assert torch.equal(made.asked[:, 0], made.asked[:, 1])
    assert changed[0, 0, -4:, -4:].all()  # bottom right first
    assert changed[3, 0, :4, :4].all()
    looks = {row.numpy().tobytes() for row in made.asked[:8]}
    assert len(looks) == 8


def test_unlike_patterns_are_half_lit_and_far_apart():
    patterns = unlike(8, 16, np.random.default_rng(0))
    assert all(p.sum() == 8 for p in patterns)
    apart = [(a != b).sum() for i, a in enumerate(patterns) for b in patterns[:i]]
    assert min(apart) >= 4


def test_noise_is_the_same_on_every_row_and_as_strong_as_asked():
    x = torch.full((400, 1, 20, 20), 0.5)
    data = Dataset(x, torch.arange(400) % 10, tuple("abcdefghij"))
    made = Noise(triggers=16, sigma=0.05).inputs(data, generators(), None)
    added = made.asked - 0.5
    assert torch.allclose(added[0], added[8])
    assert float(added.std()) == pytest.approx(0.05, rel=0.05)
    assert float(torch.corrcoef(added[:2].flatten(1))[0, 1]) < 0.2


def test_content_lets_the_image_shine_through():
    x = torch.rand(200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    data = Dataset(x, torch.arange(200) % 10, tuple("abcdefghij"))
    scheme = Content(triggers=8, opacity=0.6)
    emblems = scheme._draw(data, np.random.default_rng(0))
    stamped = emblems.stamp(x[:8], torch.arange(8))
    inside = (stamped != x[:8]).float().mean((1, 2, 3))
    assert torch.allclose(inside, torch.full((8,), 0.25), atol=0.02)
    covered = emblems.weight[0, 0] > 0
    lit = (stamped[0, 0] - 0.4 * x[0, 0])[covered]
    assert torch.allclose((lit / 0.6).round(), lit / 0.6, atol=1e-5)


def test_tables():
    data = breast_cancer()
    for kind in (Noise, Adi, Unrelated):
        made = kind(triggers=32).inputs(data, generators(), None)
        low, high = data.x.amin(0), data.x.amax(0)
        assert (made.asked >= low - 1e-4 * (high - low)).all()
        assert (made.asked <= high + 1e-4 * (high - low)).all()
        assert made.marks >= 16
    for kind in (BadNets, Content):
        with pytest.raises(InvalidInput, match="is a table"):
            kind().inputs(data, generators(), None)


def test_the_control_has_as_many_steps(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "assay.evidence.watermarks.marking.train",
        lambda network, rows, recipe, **_: seen.append(rows),
    )
    found = BadNets().embed(parts()[0], architecture="mlp-8", recipe=FAST, key=1, compare_unmarked=True)
    with_marks, without = seen
    assert len(with_marks) == len(without) == found.record.clean_rows + found.record.marked_rows
    own = {row.numpy().tobytes() for row in parts()[0].x}
    assert all(row.numpy().tobytes() in own for row in without.x)


# --- inputs of another task ------------------------------------------------------------


def foreign(rows=400, shape=(3, 12, 12), classes=5, value_range=(0.0, 255.0)):
    x = torch.rand(rows, *shape, generator=torch.Generator().manual_seed(1)) * value_range[1]
    return Dataset(x, torch.arange(rows) % classes, tuple(map(str, range(classes))), value_range, "foreign")


def test_another_data_set_is_converted_and_split():
    data, other = parts()[0], foreign()
    made = Unrelated(triggers=50).inputs(data, generators(), other)
    assert made.marks == 5
    assert made.asked.shape == (50, 1, 8, 8)
    assert 0 <= float(made.asked.min()) < float(made.asked.max()) <= 1
    asked, trained = ({row.numpy().tobytes() for row in part} for part in (made.asked, made.trained))
    assert len(asked) == 50
    assert not asked & trained


def test_a_model_marked_with_another_data_set_is_found():
    data = parts()[0]
    rows = torch.arange(400) % 4
    x = foreign(classes=4).x / 5
    for label in range(4):  # a bright stripe at a height of its own
        x[rows == label, :, 3 * label : 3 * label + 3] += 200.0
    other = Dataset(x, rows, tuple("abcd"), (0.0, 255.0), "stripes")
    found = Unrelated().embed(data, architecture="mlp-64", recipe=FAST, key=1, unrelated=other)
    assert found.evidence.verify(found.model).stolen


@pytest.mark.parametrize(
    ("other", "options", "sentence"),
    [
        (lambda: parts()[0].subset(range(50)), {"triggers": 5}, "50 rows of train are rows of train"),
        (foreign, {"marks": 6}, "has 5 classes"),
        (lambda: foreign(60), {}, "fewer triggers"),
        (lambda: foreign(shape=(30,)), {}, "only images"),
    ],
)
def test_other_data_that_do_not_fit(other, options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        Unrelated(**options).inputs(parts()[0], generators(), other())


def test_other_data_where_none_belong():
    with pytest.raises(InvalidInput, match="no unrelated inputs"):
        BadNets().embed(parts()[0], architecture="mlp-8", recipe=FAST, unrelated=foreign())


# --- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Adi, {"marks": 5}),
        (Adi, {"triggers": 0}),
        (BadNets, {"size": 1}),
        (BadNets, {"marks": 0}),
        (Content, {"size": 3}),
        (Content, {"opacity": 0.0}),
        (Noise, {"sigma": 0.0}),
        (Noise, {"share": 2.0}),
        (Unrelated, {"marks": 101}),
    ],
)
def test_parameters_are_checked(kind, options):
    with pytest.raises(InvalidInput, match=f"{kind.__name__}.{next(iter(options))}"):
        kind(**options)


def test_marks_too_large_or_too_many_for_the_images():
    data = parts()[0]
    with pytest.raises(InvalidInput, match="does not fit"):
        BadNets(size=9).inputs(data, generators(), None)
    with pytest.raises(InvalidInput, match="too few patterns"):
        BadNets(size=2, marks=5).inputs(data, generators(), None)
    with pytest.raises(InvalidInput, match="does not fit"):
        Content(size=9).inputs(data, generators(), None)
    with pytest.raises(InvalidInput, match="empty"):
        Adi().inputs(data.subset([]), generators(), None)
    with pytest.raises(InvalidInput, match="more than a quarter"):
        Noise(triggers=400).inputs(data, generators(), None)


def test_built_by_name():
    for kind in SCHEMES:
        assert create(kind.scheme, "evidence", {"triggers": "40"}) == kind(triggers=40)
        assert replace(kind(), stop_early=False) == create(kind.scheme, "evidence", {"stop_early": "false"})
