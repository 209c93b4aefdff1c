from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.defences import Dawn, Rounding, TopOne
from assay.defences.answering import Asked
from assay.errors import AccessDenied, InvalidInput
from assay.gateway.answers import Answers, Marks, _Given, read_asked
from assay.gateway.policy import Defence
from assay.gateway.server.replies import OutputTensor
from assay.gateway.server.tensors import InputTensor, from_numbers

SECRET = bytes(range(32))
N, K = 40, 6


@pytest.fixture
def true():
    return np.random.default_rng(0).dirichlet(np.full(K, 0.3), N)


@pytest.fixture
def asked():
    return Asked(np.random.default_rng(1).normal(size=(N, 5)), account="a")


def pipeline(*entries):
    return Answers([Defence(name=name, settings=more) for name, more in entries], SECRET)


def scores_of(array, dtype=np.float32, name="scores"):
    return OutputTensor(name, "FP32" if dtype == np.float32 else "FP64", array.astype(dtype))


def labels_of(array, name="labels"):
    return OutputTensor(name, "INT64", array)


def test_without_defences_everything_is_sent_as_it_came(true, asked):
    outputs = [
        scores_of(true),
        labels_of(true.argmax(1)),
        OutputTensor("features", "FP32", np.ones((N, 3, 3))),
    ]
    shown = Answers([], b"").show(outputs, asked)
    assert all(a is b for a, b in zip(shown.outputs, outputs, strict=True))
    assert np.array_equal(shown.labels, true.argmax(1))
    assert shown.marks == Marks()
    assert not Answers([], b"")


def test_defences_run_in_the_policys_order(true, asked):
    both = pipeline(("top-1", {}), ("rounding", {"digits": 1})).scores(true, asked)[0]
    top = np.where(true == true.max(1, keepdims=True), true, 0)
    assert np.allclose(both, np.round(top, 1))
    assert Rounding.name == "rounding"
    assert TopOne.name == "top-1"


@pytest.mark.parametrize("form", ["probabilities", "logits", "half"])
def test_scores_are_read_and_written_in_the_form_that_they_have(true, asked, form):
    answers = pipeline(("mad", {"budget": 0.4}))
    wanted = answers.scores(true, asked)[0]
    if form == "logits":
        array = np.log(true + 1e-12) + 3.0
        shown = answers.show([scores_of(array, np.float64)], asked).outputs[0].array
        shown = np.exp(shown) / np.exp(shown).sum(1, keepdims=True)
        assert np.allclose(shown, wanted, atol=1e-6)
        return
    dtype = np.float16 if form == "half" else np.float32
    shown = answers.show([OutputTensor("p", "FP16", true.astype(dtype))], asked).outputs[0].array
    assert shown.dtype == dtype
    assert np.allclose(shown, wanted, atol=2e-2 if form == "half" else 1e-6)


def test_a_batch_of_logits_that_looks_like_probabilities_is_not_taken_for_them(asked):
    answers = pipeline(("rounding", {"digits": 1}))
    one = Asked(asked.rows[:1])
    odd = OutputTensor("z", "FP32", np.array([[0.5, 0.5]], np.float32))
    answers.show([OutputTensor("z", "FP32", np.array([[7.0, -2.0]], np.float32))], one)
    assert np.allclose(answers.show([odd], one).outputs[0].array, np.log(0.5))


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_one_score_of_two_classes_is_read_as_such(asked, shape):
    p = np.random.default_rng(0).uniform(0.02, 0.98, N)
    answers = pipeline(("rounding", {"digits": 1}))
    shown = answers.show([scores_of(p.reshape(shape))], asked)
    assert shown.outputs[0].array.shape == shape
    assert np.allclose(shown.outputs[0].array.ravel(), np.round(p, 1), atol=1e-6)
    assert np.array_equal(shown.labels, p > 0.5)
    logits = scores_of(np.log(p / (1 - p)).reshape(shape) * 9)
    again = answers.show([logits], asked).outputs[0].array
    assert np.array_equal(again.ravel() > 0, p > 0.5)


def test_what_would_undo_a_defence_is_not_sent(true, asked):
    outputs = [
        scores_of(true),
        scores_of(np.log(true + 1e-9), name="logits"),
        OutputTensor("features", "FP32", np.ones((N, 30), np.float32) * 7),
        labels_of(true.argmax(1)[:, None]),
    ]
    shown = pipeline(("dawn", {"rate": 0.4})).show(outputs, asked)
    assert [one.name for one in shown.outputs] == ["scores", "labels"]
    assert np.array_equal(shown.outputs[1].array[:, 0], shown.outputs[0].array.argmax(1))
    assert np.array_equal(shown.labels, true.argmax(1))


def test_marks_tell_the_owner_what_was_changed(true, asked):
    answers = pipeline(("dawn", {"rate": 0.3}), ("rounding", {"digits": 1}))
    shown = answers.show([scores_of(true)], asked)
    changed = shown.marks.items
    assert 2 < len(changed) < N / 2
    assert np.array_equal(shown.marks.labels, true.argmax(1)[list(changed)])
    assert all(a != b for a, b in zip(shown.marks.labels, shown.marks.shown, strict=True))
    key = next(d for d in answers._defences if isinstance(d, Dawn))
    choice = key.choose(asked, true.argmax(1), K)
    assert np.array_equal(np.flatnonzero(choice.marked), changed)
    assert answers.commitments == {"dawn": key.commitment}


def test_labels_alone_are_defended_as_well(true, asked):
    answers = pipeline(("dawn", {"rate": 0.3}))
    label = true.argmax(1)
    alone = answers.show([labels_of(label)], asked, classes=K).outputs[0].array
    with_scores = answers.show([scores_of(true)], asked)
    assert np.array_equal(alone, with_scores.outputs[0].array.argmax(1))
    with pytest.raises(InvalidInput, match="no scores"):
        answers.show([labels_of(label)], asked)
    with pytest.raises(InvalidInput, match="no scores"):
        answers.show([labels_of(label + K)], asked, classes=K)
    assert np.array_equal(Answers([], b"").show([labels_of(label)], asked).labels, label)


def test_secrets_are_derived_and_differ(true, asked):
    entry = ("dawn", {"rate": 0.3})
    first, again = (pipeline(entry).scores(true, asked)[0] for _ in range(2))
    other = Answers([Defence(name="dawn", settings={"rate": 0.3})], bytes(32)).scores(true, asked)[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    noisy = pipeline(("noise", {"scale": 0.05}))
    plain = pipeline(("noise", {"scale": 0.05, "seed": 0}))
    assert not np.allclose(noisy.scores(true, asked)[0], plain.scores(true, asked)[0])
    assert np.array_equal(noisy.scores(true, asked)[0], noisy.scores(true, asked)[0])


def test_accounts_and_coverage_reach_the_defences(true, asked):
    answers = pipeline(("per-account", {}))
    other = Asked(asked.rows, account="b")
    assert not np.allclose(answers.scores(true, asked)[0], answers.scores(true, other)[0])
    noisy = pipeline(("coverage-noise", {}))
    assert noisy.needs_coverage
    assert not answers.needs_coverage
    wide = Asked(asked.rows, account="a", coverage=0.7)
    assert np.abs(noisy.scores(true, wide)[0] - true).max() > 0.05
    assert np.abs(noisy.scores(true, asked)[0] - true).max() < 1e-6


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("ensemble", {}), "behind the gateway"),
        (("leaf-identity", {}), "behind the gateway"),
        (("nosuch", {}), "unknown defence"),
        (("rounding", {"digit": 2}), "unknown option"),
        (("dawn", {"rate": 2.0}), "rate"),
        (("dawn", {"key": "ab"}), "secret"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(entry, words):
    with pytest.raises(InvalidInput, match=words):
        pipeline(entry)


def test_a_short_secret_is_refused():
    with pytest.raises(InvalidInput, match="16 bytes"):
        Answers([Defence(name="dawn")], b"short")


@given(
    array=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=16),
    )
)
@settings(max_examples=150, deadline=None)
def test_any_output_is_either_shown_or_refused(array):
    """Whatever a server sends: sound numbers of the same shape go out, or `InvalidInput` is raised."""
    answers = pipeline(("dawn", {"rate": 0.5}), ("reverse-sigmoid", {}))
    who = Asked(np.zeros((len(array), 2)))
    try:
        shown = answers.show([OutputTensor("x", "FP32", array)], who)
    except InvalidInput:
        assert array.ndim > 2 or not np.isfinite(array).all()
        return
    assert shown.outputs[0].array.shape == array.shape
    assert np.isfinite(shown.outputs[0].array).all()


def test_requests_are_read_as_rows_and_names():
    x = from_numbers("x", "FP32", (2, 2, 2), [0.0, 1, 2, 3, 4, 5, 6, 7])
    y = from_numbers("y", "INT64", (2, 1), [8, 9])
    asked = read_asked([x, y], account="a", coverage=0.5)
    assert asked.rows.tolist() == [[0, 1, 2, 3, 8], [4, 5, 6, 7, 9]]
    assert (asked.account, asked.coverage) == ("a", 0.5)
    words = from_numbers("t", "BYTES", (2, 2), ["a", "bc", "a", "bd"])
    both = read_asked([y, words])
    assert both.rows.shape == (2, 1)
    assert both.fingerprints[0] != both.fingerprints[1]
    alone = read_asked([from_numbers("t", "BYTES", (2, 1), ["same", "same"])])
    assert alone.rows.shape == (2, 0)
    assert alone.fingerprints[0] == alone.fingerprints[1]


def test_text_is_defended_too(true):
    words = [f"sentence {i}" for i in range(N)]
    asked = read_asked([from_numbers("t", "BYTES", (N,), words)])
    answers = pipeline(("dawn", {"rate": 0.3, "grain": 1.0}), ("noise", {"scale": 0.02}))
    first = answers.scores(true, asked)
    assert 2 < len(first[1].items) < N - 2
    turned = read_asked([from_numbers("t", "BYTES", (N,), words[::-1])])
    assert np.allclose(answers.scores(true[::-1], turned)[0], first[0][::-1])


def test_an_input_tensor_of_the_server_is_what_is_read():
    assert (
        read_asked([InputTensor("x", "FP32", (1, 3), np.ones((1, 3), np.float32))]).rows.dtype == np.float64
    )


def test_a_dress_that_wants_more_than_scores_is_told_so():
    given_scores = _Given(np.array([[0.25, 0.75]]), 4)
    with pytest.raises(AccessDenied, match="no embeddings"):
        given_scores.embeddings(torch.zeros(1, 4))
    with pytest.raises(AccessDenied, match="no weights"):
        _ = given_scores.module
