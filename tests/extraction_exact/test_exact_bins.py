from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from assay.adapters import CallableModel
from assay.adapters.sklearn_model import SklearnModel
from assay.defences import HiddenFeatures
from assay.errors import InvalidInput
from assay.extraction.exact import Domain
from assay.extraction.exact.bin_search import BinSearch
from assay.extraction.exact.linear_models import as_softmax


def service(edges, categories, classes=2, seed=0):
    hidden = HiddenFeatures(edges=edges, categories=categories)
    weights = np.random.default_rng(seed).normal(0, 1, (classes, hidden.width))
    return hidden.wear(SklearnModel(as_softmax(weights, np.zeros(classes))))


def domain(categories):
    sizes = np.array(categories, dtype=float)
    return Domain(np.where(sizes > 0, 0.0, -1.0), np.where(sizes > 0, sizes - 1, 1.0), tuple(categories))


def test_edges_and_weights_are_found_for_any_number_of_classes():
    edges = ((-0.5, 0.0, 0.25), (), (0.7,))
    for classes in (2, 4):
        done = BinSearch().run(service(edges, (0, 5, 0), classes), domain=domain((0, 5, 0)), uniform=5000)
        for i, true in enumerate(edges):
            if true:
                assert np.allclose(done.found.parameters[f"edges.{i}"], true, atol=1e-6)
        assert done.worth.r_unif.value == 0.0
        assert done.worth.tv_unif_max < 1e-12
        assert done.worth.flags == ()
        assert done.record.cost.round_trips < 25


def test_equal_neighbours_are_one_bin():
    hidden = HiddenFeatures(edges=((-0.5, 0.5),), categories=(0,))
    weights = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, -1.0]])
    done = BinSearch().run(hidden.wear(SklearnModel(as_softmax(weights, np.zeros(2)))), uniform=100)
    assert np.allclose(done.found.parameters["edges.0"], [0.5], atol=1e-6)


def test_complete_inputs_do_as_well():
    inner = service(((-0.5, 0.25), ()), (0, 3))
    plain = CallableModel(inner.scores, (2,), takes="tensor", outputs="probabilities")
    done = BinSearch().run(plain, domain=domain((0, 3)), uniform=5000)
    assert not done.worth.details["missing"]
    assert done.worth.r_unif.value == 0.0


def test_a_number_that_is_not_binned_gets_a_slope():
    model = as_softmax(np.array([[0.0, 0.0], [2.0, -1.0]]), np.array([0.0, 0.5]))
    done = BinSearch().run(SklearnModel(model), uniform=1000)
    assert done.worth.details["straight"] == 2
    assert np.allclose(done.found.parameters["slopes"][:, 1], [2.0, -1.0], atol=1e-9)
    assert done.worth.r_unif.value == 0.0


def test_a_curved_number_is_given_up_within_the_cap():
    def curved(x):
        p = 1 / (1 + np.exp(-np.sin(5 * x[:, 0])))
        return np.stack([1 - p, p], 1)

    victim = CallableModel(curved, (1,), outputs="probabilities")
    done = BinSearch(most=50).run(victim)
    assert "not-binned" in done.worth.flags
    assert done.record.cost.queries < 500


def test_features_that_act_together_are_flagged():
    def together(x):
        p = np.where((x[:, 0] > 0) ^ (x[:, 1] > 0), 0.9, 0.2)
        return np.stack([1 - p, p], 1)

    done = BinSearch().run(CallableModel(together, (2,), outputs="probabilities"))
    assert "model-mismatch" in done.worth.flags


def test_too_small_a_budget_is_refused_with_the_number():
    with pytest.raises(InvalidInput, match="at least 14 queries"):
        BinSearch().run(service(((0.0,), ()), (0, 3)), domain=domain((0, 3)), budget=13)


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"probes": 1}, {"most": 0}, {"checks": -1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidInput):
        BinSearch(**wrong)


def test_case_11_a_service_of_the_census_data():
    folder = os.environ.get("ASSAY_DATA")
    if not folder:
        pytest.skip("needs ASSAY_DATA")
    from assay.data.table import read_table

    table = read_table(Path(folder) / "tabular/aws_adult.csv.gz")
    columns, categories = [], []
    for j in range(len(table.columns) - 1):
        cells = [row[j] for row in table.rows]
        try:
            values = np.array([float(cell) for cell in cells])
        except ValueError:
            known, codes = np.unique(cells, return_inverse=True)
            columns.append(codes.astype(float))
            categories.append(len(known))
        else:
            columns.append(2 * (values - values.min()) / np.ptp(values) - 1)
            categories.append(0)
    raw, y = np.column_stack(columns), np.array([row[-1] for row in table.rows])
    hidden = HiddenFeatures.quantiles(raw, categories, bins=10)
    rows = np.random.default_rng(0).permutation(len(raw))
    model = LogisticRegression(max_iter=300, tol=1e-3).fit(hidden.encode(raw[rows[:4000]]), y[rows[:4000]])
    victim = hidden.wear(SklearnModel(model))
    done = BinSearch().run(victim, domain=domain(categories), uniform=10_000)
    inputs = torch.from_numpy(raw[rows[-10_000:]])
    assert torch.equal(victim.labels(inputs), done.surrogate.labels(inputs))
    assert done.record.cost.queries <= 1485
    ends = np.cumsum(hidden.sizes)[:-1]
    for i, (edges, weights) in enumerate(zip(hidden.edges, np.split(model.coef_[0], ends), strict=True)):
        steps = np.abs(np.diff(weights)) > 1e-9
        for edge in np.array(edges)[steps[: len(edges)]] if edges else ():
            assert np.abs(done.found.parameters[f"edges.{i}"] - edge).min() < 1e-3
    coarse = BinSearch(epsilon=1e-3).run(victim, domain=domain(categories))
    assert coarse.record.cost.queries < 500
