"""Decision trees: reference counts, exactness, duplicates, incomplete queries, bad input."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from assay.adapters import CallableModel, SklearnModel
from assay.data.catalogue import require_stored
from assay.data.coded import code_table
from assay.data.sources import steak  # noqa: F401 - registers where it is stored
from assay.data.table import read_table
from assay.defences.categories import Categories
from assay.defences.leaf_identity import LeafIdentity
from assay.errors import AccessDenied, BudgetExceeded, InvalidInput
from assay.extraction.base import ExtractionRecord
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.path_finding import PathFinding
from assay.extraction.exact.paths.slanted import is_slanted
from assay.model import Access
from assay.registry import create

# Leaves, queries and rounds of the published bottom-up algorithm with unique identities.
REFERENCE = {
    "iris": (load_iris, {}, 9, 328, 94),
    "wine": (load_wine, {}, 12, 688, 132),
    "breast_cancer": (load_breast_cancer, {}, 22, 2_232, 242),
    "digits": (load_digits, {"max_leaf_nodes": 100}, 100, 18_960, 1_089),
}
GRID_ONLY = {"precision": None, "verify": 0, "fields": False}


def unit_tree(name, maker=DecisionTreeClassifier):
    loader, options, *_ = REFERENCE[name]
    x, y = loader(return_X_y=True)
    span = x.max(0) - x.min(0)
    x = (x - x.min(0)) / np.where(span > 0, span, 1)
    return maker(random_state=0, **options).fit(x, y)


def service(tree, confidence="node", **options):
    return LeafIdentity(confidence=confidence, **options).wear(SklearnModel(tree))


class AnyTree(LeafIdentity):
    """A leaf-identity service that a regression tree, which has no scores, can wear."""

    needs = Access.LABELS


def unit(tree):
    return Domain.box(tree.n_features_in_, 0.0, 1.0)


def on_grid(victim, copy, size):
    positions = np.random.default_rng(999).integers(0, 1001, (10_000, size))
    x = torch.from_numpy(positions / 1000)
    return float((victim.labels(x) != copy.labels(x)).double().mean())


@pytest.mark.parametrize("name", REFERENCE)
def test_line_search_finds_every_leaf_at_the_published_price(name):
    _, _, leaves, queries, rounds = REFERENCE[name]
    tree = unit_tree(name)
    done = PathFinding(method="line-search", **GRID_ONLY).run(service(tree), domain=unit(tree))
    assert done.worth.details["leaves"] == leaves == tree.get_n_leaves()
    assert abs(done.record.cost.queries - queries) <= 0.1 * queries
    assert done.record.cost.round_trips <= rounds
    assert done.worth.details["coverage"] == 1.0
    assert on_grid(service(tree), done.surrogate, tree.n_features_in_) == 0.0


@pytest.mark.parametrize(
    ("name", "method", "most"),
    [
        ("iris", "bottom-up", 130),
        ("wine", "bottom-up", 229),
        ("breast_cancer", "bottom-up", 436),
        ("digits", "bottom-up", 2_640),
        ("iris", "top-down", 150),
        ("breast_cancer", "top-down", 500),
        ("digits", "top-down", 2_600),
    ],
)
def test_grouped_questions_need_a_fraction(name, method, most):
    tree = unit_tree(name)
    done = PathFinding(method=method, **GRID_ONLY).run(service(tree), domain=unit(tree))
    assert done.worth.details["leaves"] == tree.get_n_leaves()
    assert done.record.cost.queries <= most
    assert on_grid(service(tree), done.surrogate, tree.n_features_in_) == 0.0


@pytest.mark.parametrize("method", ["line-search", "bottom-up", "top-down"])
def test_thresholds_are_exact_off_the_grid_too(method):
    tree = unit_tree("breast_cancer")
    done = PathFinding(method=method).run(service(tree), domain=unit(tree), truth=tree, uniform=10_000)
    assert done.worth.exact
    assert done.worth.r_unif.high < 1e-3
    assert done.worth.parameter_error < 1e-9
    copy = done.found.model
    assert isinstance(copy, DecisionTreeClassifier)
    assert copy.get_depth() == tree.get_depth()
    x = np.random.default_rng(1).uniform(size=(500, 30))
    assert (copy.predict(x) == tree.predict(x)).all()


def test_the_fields_that_a_service_tells_make_it_cheaper():
    tree = unit_tree("digits")
    blind = PathFinding(method="top-down", fields=False).run(service(tree), domain=unit(tree))
    told = PathFinding(method="top-down").run(service(tree), domain=unit(tree), truth=tree)
    assert told.record.cost.queries < 0.85 * blind.record.cost.queries
    assert told.worth.parameter_error < 1e-9


@pytest.mark.parametrize("method", ["line-search", "bottom-up", "top-down"])
@pytest.mark.parametrize("name", ["wine", "breast_cancer", "digits"])
def test_wilson_identities_with_duplicates_still_give_the_tree(name, method):
    tree = unit_tree(name)
    shown = service(tree, "wilson")
    done = PathFinding(method=method, fields=False).run(shown, domain=unit(tree), uniform=10_000)
    assert done.worth.r_unif.value == 0.0
    assert "contradictory identities" not in done.worth.flags


def test_top_down_is_cheaper_and_no_worse_than_line_search_when_identities_are_unique():
    tree = unit_tree("digits")
    costs = {}
    for method in ("line-search", "top-down"):
        done = PathFinding(method=method, fields=False).run(service(tree), domain=unit(tree), uniform=2_000)
        costs[method] = (done.worth.r_unif.value, done.record.cost.queries)
    assert costs["top-down"] < costs["line-search"]
    assert costs["top-down"][1] < 0.25 * costs["line-search"][1]


def test_purity_identities_are_repaired_where_published_search_fails():
    tree = unit_tree("wine")
    shown = service(tree, "purity")  # 3 identities for 12 leaves
    published = PathFinding(method="line-search", **GRID_ONLY).run(shown, domain=unit(tree), uniform=5_000)
    repaired = PathFinding(method="bottom-up", fields=False).run(shown, domain=unit(tree), uniform=5_000)
    assert published.worth.r_unif.value > 0.05
    assert repaired.worth.r_unif.value == 0.0


@pytest.mark.parametrize("size", [2, 10, 40])
@pytest.mark.parametrize("method", ["line-search", "bottom-up"])
def test_one_identity_for_everything_is_one_box(method, size):
    constant = DummyClassifier(strategy="constant", constant=1).fit(np.zeros((2, size)), [0, 1])
    done = PathFinding(method=method).run(SklearnModel(constant), domain=Domain.box(size))
    assert done.worth.details["leaves"] == 1
    assert done.record.cost.queries <= 2 * size + 1 + (2 if method == "line-search" else 0) * size
    assert (done.surrogate.labels(torch.rand(5, size)) == 1).all()


def test_one_identity_costs_the_published_search_its_2d_plus_1_questions():
    constant = DummyClassifier(strategy="constant", constant=0).fit(np.zeros((2, 7)), [0, 1])
    done = PathFinding(method="line-search", verify=0).run(SklearnModel(constant), domain=Domain.box(7))
    assert done.record.cost.queries == 15


def test_k_ary_search_halves_the_rounds():
    tree = unit_tree("digits")
    runs = {
        arity: PathFinding(arity=arity, verify=0).run(service(tree), domain=unit(tree), truth=tree)
        for arity in (1, 7)
    }
    rounds = {arity: done.record.cost.round_trips for arity, done in runs.items()}
    assert rounds[7] < 0.7 * rounds[1]
    assert all(done.worth.parameter_error < 1e-9 for done in runs.values())


def test_regression_tree_with_and_without_incomplete_queries():
    x, y = load_diabetes(return_X_y=True)
    tree = DecisionTreeRegressor(max_leaf_nodes=40, random_state=0).fit(x, y)
    domain = Domain(x.min(0), x.max(0))
    for incomplete in (True, False):
        shown = AnyTree(incomplete=incomplete, digits=12).serve(tree)
        done = PathFinding().run(shown, domain=domain, truth=tree)
        assert done.worth.details["method"] == ("top-down" if incomplete else "bottom-up")
        assert isinstance(done.found.model, DecisionTreeRegressor)
        assert done.worth.parameter_error < 1e-9
        u = domain.uniform(2_000, np.random.default_rng(3))
        np.testing.assert_allclose(done.found.model.predict(u), tree.predict(u), atol=1e-9)


def categorical_victim():
    rng = np.random.default_rng(0)
    sizes = (4, 0, 3, 7)
    raw = np.stack([rng.integers(k, size=900) if k else rng.uniform(-2, 5, 900) for k in sizes], 1)
    y = ((raw[:, 0] == 2) * 1 + (raw[:, 1] > 1.3) * (raw[:, 3] % 3) + (raw[:, 2] == 0)) % 3
    front = Categories(categories=sizes)
    tree = DecisionTreeClassifier(max_leaf_nodes=30, random_state=0).fit(front.encode(raw), y)
    low, high = np.array([0, -2, 0, 0.0]), np.array([3, 5, 2, 6.0])
    return front, tree, Domain(low, high, sizes)


@pytest.mark.parametrize("method", ["line-search", "bottom-up", "top-down"])
def test_categories_come_back_as_a_pipeline(method):
    front, tree, domain = categorical_victim()
    done = PathFinding(method=method).run(front.wear(service(tree)), domain=domain, uniform=5_000)
    assert done.worth.exact
    assert done.worth.details["leaves"] == tree.get_n_leaves()
    assert isinstance(done.found.model, Pipeline)


def test_a_plain_tree_is_recovered_from_its_scores():
    tree = unit_tree("iris")
    done = PathFinding().run(SklearnModel(tree), domain=unit(tree), uniform=5_000)
    assert done.worth.r_unif.value == 0.0
    # float32 is what scikit-learn compares; the boundary of a rounding is found, not its middle.
    assert done.worth.tv_unif_max == 0.0


def test_labels_alone_are_identities_too():
    tree = unit_tree("iris")
    victim = SklearnModel(tree, access=Access.LABELS)
    done = PathFinding(verify=10).run(victim, domain=unit(tree), uniform=5_000)
    assert done.worth.r_unif.value <= 0.01


def test_same_seed_same_tree_and_a_journal_answers_again(tmp_path):
    tree = unit_tree("wine")
    journal = tmp_path / "answers.jsonl"
    one = PathFinding(method="bottom-up").run(service(tree), domain=unit(tree), rng=4, journal=journal)
    again = PathFinding(method="bottom-up").run(service(tree), domain=unit(tree), rng=4, journal=journal)
    assert one.surrogate.digest == again.surrogate.digest
    assert again.record.cost.replayed == one.record.cost.queries
    assert again.record.cost.round_trips == 0
    assert ExtractionRecord.from_json(one.record.to_json()) == one.record


def test_the_copy_survives_skops(tmp_path):
    from assay.adapters.sklearn_model import load_skops

    tree = unit_tree("wine")
    done = PathFinding().run(service(tree), domain=unit(tree))
    done.save(tmp_path / "copy")
    trusted = ("sklearn.tree._tree.Tree",)
    opened = load_skops(tmp_path / "copy" / "surrogate.skops", trust=trusted)
    x = torch.rand(200, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(opened.labels(x), done.surrogate.labels(x))


def test_a_small_budget_gives_a_part_of_the_tree_with_a_flag():
    tree = unit_tree("digits")
    done = PathFinding(method="bottom-up").run(service(tree), domain=unit(tree), budget=1_500)
    assert done.record.cost.queries <= 1_500
    assert {"budget exhausted", "incomplete tree"} <= set(done.worth.flags)
    assert 1 < done.worth.details["leaves"] < 100
    assert 0 < done.worth.details["coverage"] < 1
    with pytest.raises(BudgetExceeded):
        PathFinding().run(service(tree), domain=unit(tree), budget=2)


def test_too_many_leaves_end_with_a_flag():
    tree = unit_tree("digits")
    done = PathFinding(most_leaves=20, method="bottom-up").run(service(tree), domain=unit(tree))
    assert "too many leaves" in done.worth.flags


@pytest.mark.parametrize("method", ["bottom-up", "line-search"])
def test_a_model_that_is_no_tree_ends_the_search_at_once(method):
    x, y = load_iris(return_X_y=True)
    victim = SklearnModel(LogisticRegression(max_iter=200).fit(x, y))
    done = PathFinding(method=method, whole=()).run(victim, domain=Domain.box(4, 0.0, 8.0))
    assert "not a tree" in done.worth.flags
    assert done.record.cost.queries < 5_000


def test_top_down_is_refused_where_queries_must_be_complete():
    tree = unit_tree("iris")
    with pytest.raises(AccessDenied, match="incomplete"):
        PathFinding(method="top-down").run(service(tree, incomplete=False), domain=unit(tree))


def test_a_victim_that_shows_nothing_is_refused():
    shown = service(unit_tree("iris"))
    shown.access = Access.NONE
    with pytest.raises(AccessDenied, match="tells leaves apart"):
        PathFinding().run(shown, domain=Domain.box(4, 0.0, 1.0))


@pytest.mark.parametrize(
    "bad",
    [{"epsilon": 0.0}, {"epsilon": 2.0}, {"precision": -1.0}, {"arity": 0}, {"verify": -1}, {"method": "up"}],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(InvalidInput):
        PathFinding(**bad)


def test_whole_columns_must_exist():
    tree = unit_tree("iris")
    with pytest.raises(InvalidInput, match="feature 9"):
        PathFinding(whole=(9,)).run(service(tree), domain=unit(tree))


def test_known_by_name():
    assert create("path-finding", "extraction", {"epsilon": "0.01", "method": "top-down"}).epsilon == 0.01


def test_a_domain_of_categories_only_is_searched_to_the_end():
    rng = np.random.default_rng(0)
    sizes = (4, 3, 7)
    raw = np.stack([rng.integers(k, size=900) for k in sizes], 1)
    front = Categories(categories=sizes)
    tree = DecisionTreeClassifier(random_state=0).fit(
        front.encode(raw), (raw.sum(1) + raw[:, 0] * raw[:, 1]) % 3
    )
    domain = Domain(np.zeros(3), np.array(sizes) - 1.0, sizes)
    for method in ("line-search", "bottom-up", "top-down"):
        done = PathFinding(method=method).run(front.wear(service(tree)), domain=domain, uniform=5_000)
        assert done.worth.exact, method
        assert done.worth.details["leaves"] == tree.get_n_leaves()


@pytest.mark.parametrize("method", ["auto", "line-search"])
def test_labels_of_a_linear_model_are_no_tree_and_the_search_says_so_early(method):
    x, y = load_iris(return_X_y=True)
    x = 2 * (x - x.min(0)) / np.ptp(x, axis=0) - 1
    victim = SklearnModel(LogisticRegression(max_iter=300).fit(x, y), access=Access.LABELS)
    done = PathFinding(method=method).run(victim)
    assert "not a tree" in done.worth.flags
    assert done.record.cost.queries < 5000


def regression_tree():
    x, y = load_diabetes(return_X_y=True)
    x = (x - x.min(0)) / np.ptp(x, axis=0)
    return DecisionTreeRegressor(random_state=0).fit(x, y)


def dense_tree():
    """A tree of nearly 2,000 thin leaves and two labels."""
    x = np.random.default_rng(0).uniform(size=(4000, 5))
    return DecisionTreeClassifier(random_state=0).fit(x, (np.sin(20 * x).sum(1) > 0).astype(int))


TREES = {name: lambda name=name: unit_tree(name) for name in REFERENCE}
TREES |= {"diabetes": regression_tree, "dense": dense_tree}


@pytest.mark.parametrize("name", TREES)
def test_real_trees_never_look_slanted(name):
    tree = TREES[name]()
    for seed in range(12):
        assert not is_slanted(tree.predict, unit(tree), np.random.default_rng(seed))
        assert not is_slanted(tree.apply, unit(tree), np.random.default_rng(seed))


def slants():
    x, y = load_digits(return_X_y=True)
    linear = LogisticRegression(max_iter=100).fit(x / 16, y)
    kernel = SVC().fit(x / 16, y % 2)
    rare = load_breast_cancer(return_X_y=True)
    cells = LogisticRegression(max_iter=300).fit(rare[0] / rare[0].max(0), rare[1])
    return {
        "linear": (linear.predict, 64),
        "a rare class": (lambda x: (x.sum(1) > 33).astype(int), 60),
        "cells": (cells.predict, 30),
        "kernel": (kernel.predict, 64),
        "two of twenty features": (lambda x: (x[:, 3] + 0.01 * x[:, 17] > 0.5).astype(int), 20),
    }


@pytest.mark.parametrize("name", slants())
def test_slanted_boundaries_do(name):
    answer, size = slants()[name]
    for seed in range(5):
        assert is_slanted(answer, Domain.box(size, 0.0, 1.0), np.random.default_rng(seed))


def test_without_a_boundary_or_a_second_number_nothing_is_slanted():
    rng = np.random.default_rng(0)
    assert not is_slanted(lambda x: np.zeros(len(x), dtype=int), Domain.box(64), rng)
    assert not is_slanted(lambda x: (x[:, 0] > 0.4).astype(int), Domain.box(1), rng)
    one = Domain(np.zeros(2), np.array([1.0, 3.0]), (0, 4))
    assert not is_slanted(lambda x: (x[:, 0] > 0.2 + 0.1 * x[:, 1]).astype(int), one, rng)


def test_a_slant_of_two_features_ends_the_search_early():
    victim = CallableModel(lambda x: (x[:, 3] + x[:, 17] > 0.9).astype(int), (20,), 2)
    done = PathFinding().run(victim, domain=Domain.box(20, 0.0, 1.0))
    assert "not a tree" in done.worth.flags
    assert done.record.cost.queries < 5_000


def test_labels_of_a_tree_are_never_given_up_on():
    tree = unit_tree("breast_cancer")
    victim = SklearnModel(tree, access=Access.LABELS)
    done = PathFinding(method="bottom-up").run(victim, domain=unit(tree), budget=4_500)
    assert "not a tree" not in done.worth.flags
    assert done.worth.details["leaves"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("fields", [True, False])
def test_a_survey_tree_of_193_leaves_and_40_identities_is_found_whole(fields):
    try:
        table = read_table(require_stored("steak"), header=2, name="steak")
    except InvalidInput as error:
        pytest.skip(str(error))
    drop = ("RespondentID", "Do you eat steak?")
    coded = code_table(table, "How do you like your steak prepared?", drop=drop)
    front = Categories(categories=coded.sizes)
    tree = DecisionTreeClassifier(max_leaf_nodes=193, random_state=0).fit(front.encode(coded.x), coded.y)
    sizes = np.array(coded.sizes)
    domain = Domain(np.zeros(len(sizes)), sizes - 1.0, coded.sizes)
    for seed in range(4):
        started = time.process_time()
        done = PathFinding(fields=fields).run(
            front.wear(service(tree, "wilson", digits=5)), domain=domain, rng=seed
        )
        assert time.process_time() - started < 30
        assert (done.found.model.predict(coded.x) == tree.predict(front.encode(coded.x))).all()
        assert done.record.cost.queries < (4_013 if fields else 9_000)
