from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from assay.adapters import TorchModel
from assay.adapters.sklearn_model import SklearnModel
from assay.defences import Noise, TopK, TopOne
from assay.errors import InvalidInput, UnknownName
from assay.extraction.exact import Domain
from assay.extraction.exact.equation_solving import EquationSolving
from assay.extraction.exact.gauss_newton import fit_logs
from assay.extraction.exact.linear_models import as_one_vs_rest, as_softmax, linear_error, linear_truth
from assay.extraction.exact.precision import find_grain

U = 10_000


def binary(d):
    w = np.random.default_rng(d).normal(0, 2, d + 1)
    return as_softmax(np.stack([np.zeros(d), w[:-1]]), np.array([0.0, w[-1]]))


def one_vs_rest(classes, size, seed, spread=0.25):
    w = np.random.default_rng(seed).normal(0, spread, (classes, size + 1))
    return as_one_vs_rest(w[:, :-1], w[:, -1])


def softmax(classes, size, seed, spread=1.0):
    w = np.random.default_rng(seed).normal(0, spread, (classes, size + 1))
    return as_softmax(w[:, :-1], w[:, -1])


def run(model, attack, **options):
    return attack.run(SklearnModel(model), truth=model, uniform=options.pop("uniform", U), **options)


@pytest.mark.parametrize("d", [2, 8, 10, 108, 112])
def test_case_1_binary_models_are_exact_at_the_bound(d):
    done = run(binary(d), EquationSolving(checks=0))
    assert done.record.cost.queries == d + 1
    assert done.record.cost.round_trips == 1
    assert done.worth.parameter_error < 1e-11
    assert done.worth.r_unif.value == 0.0
    assert done.worth.r_unif.high < 4e-4
    assert (done.worth.bound, done.worth.unknowns, done.worth.flags) == (d + 1, d + 1, ())


def test_case_2_saturated_answers_are_noticed_and_asked_again():
    done = run(binary(108), EquationSolving(design="uniform", checks=0))
    assert "saturated" in done.worth.flags
    assert done.worth.parameter_error < 1e-9
    assert done.record.cost.queries <= 2 * 109


def test_a_victim_that_saturates_everywhere_is_refused_in_words():
    model = as_softmax(np.zeros((2, 3)), np.array([0.0, 60.0]))
    with pytest.raises(InvalidInput, match="0 or 1 wherever"):
        run(model, EquationSolving())


def race():
    """A softmax of the size of the census data (5 classes, 105 one-hot columns), far from balanced."""
    rng = np.random.default_rng(7)
    return as_softmax(rng.normal(0, 0.8, (5, 105)), np.array([-2.0, 0.0, 1.0, -2.5, 4.0]))


def test_case_3_a_softmax_takes_one_answer_more_than_it_has_features():
    done = run(race(), EquationSolving(design="uniform", checks=0), rng=106)
    assert done.record.cost.queries == 106
    assert done.worth.parameter_error < 1e-11
    assert done.worth.tv_unif_max < 1e-11
    assert done.worth.r_unif.value == 0.0
    assert done.worth.queries_per_unknown == 106 / 530


def test_case_4_one_answer_short_is_flagged():
    done = run(race(), EquationSolving(design="uniform", checks=0), rng=106, budget=105)
    assert done.worth.flags == ("rank-deficient",)
    assert done.record.cost.queries == 105
    assert done.worth.bound == 106
    # Of all solutions it is one of the smallest: no longer than the truth.
    found, true = done.found.parameters["coef"], race().coef_ - race().coef_[:1]
    assert np.linalg.norm(found) <= np.linalg.norm(true) * 1.2


@pytest.mark.slow
def test_case_3_on_the_census_data():
    folder = os.environ.get("ASSAY_DATA")
    if not folder:
        pytest.skip("needs ASSAY_DATA")
    from assay.data.table import read_table

    table = read_table(Path(folder) / "tabular/aws_adult.csv.gz")
    data, _ = table.encode("race", missing="category")
    x, y = data.x.double().numpy() * 2 - 1, data.y.numpy()
    rows = np.random.default_rng(0).permutation(len(x))[: int(0.7 * len(x))]
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(max_iter=200).fit(x[rows], y[rows])
    done = run(model, EquationSolving(design="uniform", checks=0), rng=106)
    assert done.record.cost.queries == 106
    assert done.worth.parameter_error < 1e-11
    assert done.worth.tv_unif_max < 1e-11
    assert done.worth.r_unif.value == 0.0


def test_case_5_one_vs_rest_is_exact_at_its_bound_and_flagged_below():
    model = one_vs_rest(5, 20, 1)
    attack = EquationSolving(model="one-vs-rest", design="uniform", checks=0, restarts=3)
    done = run(model, attack, budget=27)
    assert (done.record.cost.queries, done.worth.bound, done.worth.flags) == (27, 27, ())
    assert done.worth.parameter_error < 1e-9
    assert done.worth.r_unif.value == 0.0
    short = run(model, attack, budget=26)
    assert short.worth.flags == ("rank-deficient",)


@pytest.mark.parametrize(("size", "classes", "rows"), [(105, 5, 147)])
def test_larger_one_vs_rest_models_take_a_tenth_more(size, classes, rows):
    w = np.random.default_rng(3).normal(0, 0.25, (classes, size + 1))
    x = np.random.default_rng(4).uniform(-1, 1, (rows, size))
    scores = as_one_vs_rest(w[:, :-1], w[:, -1]).predict_proba(x)
    fit = fit_logs(x, scores, "one-vs-rest", np.random.default_rng(0), restarts=3)
    assert max(np.abs(fit.coef - w[:, :-1]).max(), np.abs(fit.intercept - w[:, -1]).max()) < 1e-9


def test_the_class_of_the_model_is_found_out():
    done = run(one_vs_rest(4, 8, 2), EquationSolving(), uniform=500)
    assert done.worth.family == "one-vs-rest regression"
    assert done.worth.parameter_error < 1e-8
    done = run(softmax(4, 8, 2), EquationSolving(), uniform=500)
    assert done.worth.family == "softmax regression"
    assert done.worth.parameter_error < 1e-11


def test_real_victims_are_recovered_from_their_own_data():
    one, every = LogisticRegression(C=0.1, max_iter=500), OneVsRestClassifier(LogisticRegression(C=0.1))
    for data, models in ((load_iris, (one, every)), (load_digits, (one,))):
        x, y = data(return_X_y=True)
        x = 2 * (x - x.min()) / (x.max() - x.min()) - 1
        for model in models:
            done = run(model.fit(x, y), EquationSolving(), uniform=1000)
            assert done.worth.r_unif.value == 0.0
            assert done.worth.parameter_error < 1e-8
            assert done.worth.flags == ()


@pytest.mark.slow
def test_one_vs_rest_of_digits_takes_a_few_more_than_the_bound():
    x, y = load_digits(return_X_y=True)
    done = run(OneVsRestClassifier(LogisticRegression(C=0.1)).fit(x / 8 - 1, y), EquationSolving())
    assert done.worth.parameter_error < 1e-9
    assert done.record.cost.queries <= 2 * done.worth.bound


def test_a_quadratic_model_is_no_logistic_one_and_is_flagged():
    x, y = load_iris(return_X_y=True)
    done = run(GaussianNB(var_smoothing=1.0).fit(x / 4 - 1, y), EquationSolving())
    assert "model-mismatch" in done.worth.flags
    assert done.worth.parameter_error is None


def test_a_network_in_float32_is_recovered_to_its_precision():
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 4)
    done = EquationSolving().run(TorchModel(layer, (6,), 4), truth=layer, uniform=1000)
    assert done.worth.flags == ("float32",)
    assert done.worth.parameter_error < 1e-5
    double = torch.nn.Linear(6, 4).double()
    done = EquationSolving().run(TorchModel(double, (6,), 4), truth=double, uniform=1000)
    assert done.worth.flags == ()
    assert done.worth.parameter_error < 1e-13


@pytest.mark.parametrize("classes", [2, 4])
def test_hidden_scores_are_worked_around(classes):
    model = softmax(classes, 6, 5)
    for dress in (TopOne(), TopK(k=2)):
        done = EquationSolving().run(dress.wear(SklearnModel(model)), truth=model, uniform=1000)
        assert done.worth.parameter_error < 1e-9
        assert done.worth.r_unif.value == 0.0


def test_noise_is_flagged_and_more_answers_average_it():
    model = softmax(3, 5, 6)
    noisy = Noise(scale=0.01).wear(SklearnModel(model))
    few = EquationSolving(model="softmax").run(noisy, truth=model, uniform=2000)
    many = EquationSolving(model="softmax", queries=2000).run(noisy, truth=model, uniform=2000)
    assert "model-mismatch" in few.worth.flags
    assert "model-mismatch" in many.worth.flags
    assert many.worth.parameter_error < 0.5 * few.worth.parameter_error


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_a_constant_victim_is_said_to_be_constant(bias):
    model = as_softmax(np.zeros((3, 4)), np.array([0.0, bias, 0.0]))
    done = run(model, EquationSolving(), uniform=100)
    assert done.worth.flags == ("constant",)
    assert done.worth.parameter_error < 1e-9


def test_some_weights_may_be_zero():
    w = np.zeros((2, 6))
    w[1, 2] = 4.0
    done = run(as_softmax(w, np.zeros(2)), EquationSolving(), uniform=100)
    assert done.worth.parameter_error < 1e-12


def test_other_domains_are_asked_where_they_are():
    model = as_softmax(np.array([[0.0, 0.0], [1e-3, -5.0]]), np.array([0.0, -2.0]))
    domain = Domain(np.array([1000.0, 0.0]), np.array([5000.0, 1.0]))
    done = run(model, EquationSolving(), domain=domain)
    assert done.worth.parameter_error < 1e-9
    assert done.worth.r_unif.value == 0.0


def test_a_budget_of_nothing_is_refused_with_the_bound():
    with pytest.raises(InvalidInput, match="needs 4 queries"):
        run(softmax(3, 3, 0), EquationSolving(), budget=0)


def test_truth_of_another_kind_gives_no_error():
    model = softmax(3, 4, 0)
    coef, intercept = model.coef_, model.intercept_
    assert linear_error("softmax", coef, intercept, model) == 0.0
    assert linear_error("softmax", coef, intercept, (coef + 2.0, intercept + 1.0)) < 1e-14
    assert linear_error("one-vs-rest", coef, intercept, model) is None
    assert linear_truth("no model") is None
    assert linear_truth(OneVsRestClassifier(DecisionTreeClassifier()).fit(np.eye(3), [0, 1, 2])) is None


def test_the_grain_of_answers_is_seen():
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    assert find_grain(scores).title == "float64"
    assert find_grain(scores.astype(np.float32).astype(np.float64)).title == "float32"
    for digits in (1, 2, 5, 8):
        assert find_grain(np.round(scores, digits)).digits == digits
    assert find_grain(np.round(scores, 3).astype(np.float32).astype(np.float64)).digits == 3
    assert not find_grain(np.eye(3)).rounded


def test_options_out_of_range_are_refused():
    for wrong in ({"queries": 0}, {"checks": -1}, {"restarts": 0}):
        with pytest.raises(InvalidInput):
            EquationSolving(**wrong)
    with pytest.raises(UnknownName, match="did you mean 'softmax'"):
        EquationSolving(model="softmx")
