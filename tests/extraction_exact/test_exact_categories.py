"""A service that encodes categories itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

from assay.adapters import SklearnModel
from assay.defences.categories import Categories
from assay.defences.leaf_identity import LeafIdentity
from assay.errors import InvalidInput
from assay.model import Access, accepts_missing


def served():
    front = Categories(categories=(3, 0))
    raw = np.array([[0, 0.1], [1, 0.9], [2, 0.2], [1, 0.1], [0, 0.8], [2, 0.7]])
    tree = DecisionTreeClassifier(random_state=0).fit(front.encode(raw), [0, 1, 0, 0, 0, 1])
    return front, tree, front.wear(LeafIdentity().wear(SklearnModel(tree)))


def test_dummies_of_a_missing_feature_are_missing():
    front = Categories(categories=(3, 0))
    expected = [[0, 1, 0, 5.5], [np.nan, np.nan, np.nan, 1.0]]
    np.testing.assert_array_equal(front.encode(np.array([[1, 5.5], [np.nan, 1.0]])), expected)


def test_answers_are_those_of_the_tree_behind():
    front, tree, shown = served()
    x = torch.tensor([[0.0, 0.3], [1.0, 0.95], [2.0, 0.5]], dtype=torch.float64)
    assert shown.labels(x).tolist() == tree.predict(front.encode(x.numpy())).tolist()
    assert shown.input_shape == (2,)
    assert accepts_missing(shown)
    assert Access.EMBEDDINGS in shown.access
    assert Access.WEIGHTS not in shown.access


def test_fields_are_those_of_features_not_of_dummies():
    _, tree, shown = served()
    answer = shown.embeddings(torch.full((1, 2), torch.nan, dtype=torch.float64))
    root = int(tree.tree_.feature[0])
    assert answer.shape == (1, 4)
    assert answer[0, 2:].tolist() == [float(root < 3), float(root == 3)]


@pytest.mark.parametrize("sizes", [(), (1, 2), (-1,)])
def test_impossible_categories_are_refused(sizes):
    with pytest.raises(InvalidInput):
        Categories(categories=sizes)


def test_a_model_of_another_width_is_refused():
    _, tree, _ = served()
    with pytest.raises(InvalidInput, match="takes inputs of shape"):
        Categories(categories=(2, 0)).wear(SklearnModel(tree))
