from __future__ import annotations

import numpy as np
import pytest
from skops.io import dump

from assay.extraction import ExtractionRecord
from assay.extraction.exact.linear_models import as_softmax


@pytest.fixture
def victim(tmp_path):
    w = np.random.default_rng(0).normal(0, 1, (3, 5))
    dump(as_softmax(w[:, :-1], w[:, -1]), tmp_path / "clf.skops")
    return "clf.skops"


def test_an_exact_attack_needs_no_pool_and_prints_its_numbers(assay, victim):
    done = assay(
        "extract", "--attack", "equation-solving", "--victim", victim, "--price", "1", "--out", "theft"
    )
    assert (done.code, done.err) == (0, "")
    for word in ("softmax regression", "parameter error", "R_unif", "at most 0.00037", "queries per unknown"):
        assert word in done.out
    assert "theft/surrogate.skops" in done.out
    record = ExtractionRecord.load("theft/extraction.json")
    assert record.exact.parameter_error < 1e-11
    assert record.cost.dollars == 7.0
    again = assay("extract", "--attack", "auto", "--victim", "theft/surrogate.skops", "--json")
    assert again.json["victim"] == record.surrogate or again.json["exact"]["parameter_error"] < 1e-11


def test_a_defence_is_worn_by_the_victim(assay, victim):
    words = ("extract", "--attack", "auto", "--victim", victim, "--uniform", "200", "--json")
    done = assay(*words, "--defence", "rounding:digits=2,renormalise=false")
    assert done.code == 0, done.err
    assert done.json["exact"]["flags"] == ["rounded"]
    assert done.json["exact"]["details"]["answers"].startswith("all scores, in 2 decimals")
    assert done.json["exact"]["parameter_error"] < 0.1
    twice = assay(*words, "--defence", "noise:scale=0", "--defence", "top-1")
    assert "largest scores" in twice.json["exact"]["details"]["answers"]


def test_the_domain_is_the_users_to_say(assay, victim):
    words = ("extract", "--attack", "equation-solving", "--victim", victim, "--json")
    assert assay(*words, "--domain", "0,10").code == 0
    refused = assay(*words, "--domain", "0,10;0,1")
    assert (refused.code, refused.json if refused.out else None) == (2, None)
    assert "4 features" in refused.err
    assert assay(*words, "--uniform", "0").json["exact"]["r_unif"] is None
    assert assay(*words, "--uniform", "-1").code == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--attack", "label-query"), "needs inputs to ask about; give --pool"),
        (("--attack", "equation-solving", "--defence", "rounding:digit=2"), "did you mean 'digits'"),
        (("--attack", "equation-solving", "--defence", "nonsense"), "unknown defence"),
        (("--attack", "equation-solving", "--budget", "0"), "needs 5 queries"),
        (("--attack", "equation-solving", "--access", "labels"), "needs scores"),
        (("--attack", "label-query", "--pool", "iris", "--domain", "0,1"), "attacks without a pool"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(assay, victim, words, sentence):
    done = assay("extract", "--victim", victim, *words)
    assert done.code in (2, 3)
    assert sentence in done.err
    assert done.err.count("\n") == 1
