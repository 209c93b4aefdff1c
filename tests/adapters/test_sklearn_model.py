from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from assay.adapters import SklearnModel, open_model
from assay.errors import AccessDenied, InvalidInput, MissingDependency
from assay.model import Access

ROWS, CLASSES = load_iris(return_X_y=True)
X = torch.from_numpy(ROWS.astype(np.float32))


@pytest.fixture(scope="module")
def fitted():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, CLASSES)


def test_answers_match_the_estimator(fitted):
    model = open_model(fitted, batch_size=40)
    assert np.allclose(model.scores(X), fitted.predict_proba(X.numpy()))
    assert model.labels(X).tolist() == fitted.predict(X.numpy()).tolist()
    assert (model.input_shape, model.num_classes, model.access) == ((4,), 3, Access.SCORES)


def test_inputs_are_flattened(fitted):
    model = open_model(fitted, input_shape=(1, 2, 2))
    assert model.labels(X.reshape(-1, 1, 2, 2)).tolist() == fitted.predict(X.numpy()).tolist()
    with pytest.raises(InvalidInput, match="takes 4 columns"):
        open_model(fitted, input_shape=(5,))


@pytest.mark.parametrize("names", [np.array([3, 7, 40]), np.array(["a", "b", "c"])])
def test_classes_are_numbered_in_sorted_order(names):
    fitted = DecisionTreeClassifier(max_depth=3, random_state=0).fit(ROWS, names[CLASSES])
    model = open_model(fitted)
    assert names[model.labels(X).numpy()].tolist() == fitted.predict(X.numpy()).tolist()
    assert np.allclose(model.scores(X), fitted.predict_proba(X.numpy()))


def test_without_probabilities_labels_only():
    fitted = RidgeClassifier().fit(ROWS, CLASSES)
    model = open_model(fitted)
    assert model.access is Access.LABELS
    assert model.labels(X).tolist() == fitted.predict(X.numpy()).tolist()
    with pytest.raises(AccessDenied):
        model.scores(X)
    with pytest.raises(AccessDenied):
        open_model(fitted, access="scores")


def test_digest_follows_the_fit(fitted):
    other = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(ROWS, CLASSES)
    again = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, CLASSES)
    assert SklearnModel(fitted).digest == SklearnModel(again).digest != SklearnModel(other).digest


def test_what_is_no_classifier():
    several = DecisionTreeClassifier().fit(ROWS, np.stack([CLASSES, CLASSES], 1))
    for bad in (LogisticRegression(), LinearRegression().fit(ROWS, CLASSES), several):
        with pytest.raises(InvalidInput):
            open_model(bad)
    for x in (torch.zeros(2, 5), torch.zeros(2, 4).long(), torch.full((1, 4), torch.nan)):
        with pytest.raises(InvalidInput):
            open_model(DecisionTreeClassifier().fit(ROWS, CLASSES)).labels(x)


def test_estimators_that_lie():
    class Liar:
        classes_ = np.array([0, 1])
        n_features_in_ = 4

        def predict(self, x):
            return np.full(len(x), 5)

    with pytest.raises(InvalidInput, match="outside its classes_"):
        open_model(Liar()).labels(X)
    Liar.n_features_in_ = None
    with pytest.raises(InvalidInput, match="pass input_shape"):
        open_model(Liar())


def test_skops_round_trip(fitted, tmp_path):
    skops = pytest.importorskip("skops.io")
    skops.dump(fitted, tmp_path / "iris.skops")
    model = open_model(tmp_path / "iris.skops")
    assert model.name == "iris"
    assert np.allclose(model.scores(X), fitted.predict_proba(X.numpy()))
    again = open_model(tmp_path / "iris.skops", access="labels")
    assert again.digest == model.digest
    assert again.access is Access.LABELS


def test_skops_types_must_be_trusted_by_name(tmp_path):
    skops = pytest.importorskip("skops.io")
    tree = DecisionTreeClassifier(random_state=0).fit(ROWS, CLASSES)
    path = tmp_path / "tree.skops"
    skops.dump(tree, path)
    needed = skops.get_untrusted_types(file=path)
    assert needed, "the control: this file needs a type that skops does not trust by itself"
    for trust in ((), ("sklearn",), ("os.system",)):
        with pytest.raises(InvalidInput, match=r"sklearn\.tree\._tree\.Tree"):
            open_model(path, trust=trust)
    model = open_model(path, trust=needed)
    assert model.labels(X).tolist() == tree.predict(X.numpy()).tolist()


def test_missing_skops_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.skops").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(MissingDependency, match=r"assay-ml\[skops\]"):
        open_model(tmp_path / "a.skops")
