"""A decision tree behind the confidence that a service shows for each node."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from assay.adapters.sklearn_model import SklearnModel
from assay.defences.base import Defence, Dressed, estimator_of
from assay.errors import InvalidInput, UnknownName
from assay.model import Access, Model
from assay.registry import nearest, register

__all__ = ["Confidence", "LeafIdentity", "TreeService"]

Confidence = Literal["wilson", "purity", "node"]
_MOST_DIGITS = 15


@register("leaf-identity", kind="defence")
@dataclass(frozen=True, kw_only=True)
class LeafIdentity(Defence):
    """Show a tree's class with the confidence of the node in which an input ends.

    ``scores`` has the confidence in the column of the predicted class and 0 elsewhere.
    ``embeddings`` is the whole answer, ``[n, 2 + d]``: the value (class, or the mean of a
    regression tree), the confidence, and for each feature whether the service says it was
    looked at (1.0): the features of the splits on the path and, where evaluation stopped
    for a missing feature, that feature.

    Parameters
    ----------
    confidence
        ``"wilson"``: lower end of the Wilson interval of the majority's share, which
        differs between leaves of different size; ``"purity"``: the share itself, 1 for
        every pure leaf; ``"node"``: a number of its own for every node.
    digits
        Decimals of confidence (and of a regression tree's value), 1 to 15.
    incomplete
        Whether features may be left out; evaluation then stops at the first node that
        asks for one.

    References
    ----------
    Tramèr et al. 2016, sections 4.2 and 5.

    Examples
    --------
    >>> import torch
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> tree = DecisionTreeClassifier().fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    >>> service = LeafIdentity().wear(SklearnModel(tree))
    >>> service.scores(torch.tensor([[0.0], [2.0], [torch.nan]])).tolist()
    [[0.34238, 0.0], [0.0, 0.20655], [0.20766, 0.0]]
    """

    name: ClassVar[str] = "leaf-identity"
    needs: ClassVar[Access] = Access.LABELS

    confidence: Confidence = "wilson"
    digits: int = 5
    incomplete: bool = True

    def __post_init__(self) -> None:
        if self.confidence not in typing.get_args(Confidence):
            raise UnknownName(nearest(self.confidence, list(typing.get_args(Confidence)), "confidence"))
        if not 1 <= self.digits <= _MOST_DIGITS:
            msg = f"digits must lie in 1 to {_MOST_DIGITS}, got {self.digits}"
            raise InvalidInput(msg)

    def wear(self, model: Model) -> Dressed:
        """Return the service of a scikit-learn decision tree."""
        return TreeService(model, self)

    def serve(self, tree: Any, name: str = "tree") -> TreeService:
        """Return the service of a fitted scikit-learn tree, a regression tree included.

        A regression service offers embeddings only; its two classes mean nothing.
        """
        if hasattr(tree, "classes_"):
            return TreeService(SklearnModel(tree, name=name), self)
        return TreeService(SklearnModel(_Values(tree), name=name), self, tree)


class TreeService(Dressed):
    """A tree as a service shows it; made by `LeafIdentity`.

    Parameters
    ----------
    model
        The tree.
    how
        What is shown.
    tree
        The fitted tree itself; found in ``model`` unless given.
    """

    def __init__(self, model: Model, how: LeafIdentity, tree: Any = None) -> None:
        tree = estimator_of(model) if tree is None else tree
        if not hasattr(tree, "tree_"):
            msg = f"{model.name} is a {type(tree).__name__}, not one decision tree"
            raise InvalidInput(msg)
        graded = hasattr(tree, "classes_")
        offered = Access.EMBEDDINGS | (Access.SCORES if graded else Access.NONE)
        super().__init__(model, how, access=offered, complete=False, missing=how.incomplete)
        inner = tree.tree_
        self._children = np.stack([inner.children_left, inner.children_right], axis=1)
        self._feature, self._threshold = inner.feature.copy(), inner.threshold.copy()
        values = inner.value[:, 0, :]
        if graded:
            self._value = values.argmax(axis=1).astype(np.float64)
            share = values.max(axis=1) / values.sum(axis=1)
            self._confidence = np.round(_shown(share, inner.n_node_samples, how), how.digits)
        else:
            self._value, self._confidence = np.round(values[:, 0], how.digits), np.zeros(len(values))
        self._seen = self._looked_at(math.prod(self.input_shape))

    @property
    def leaves(self) -> int:
        """Number of leaves, for the owner."""
        return int((self._feature < 0).sum())

    def _looked_at(self, features: int) -> np.ndarray:
        """Return for each node the features that lead to it and, of inner nodes, its own."""
        seen = np.zeros((len(self._feature), features), dtype=bool)
        for node in range(len(self._feature)):  # parents come before their children
            if self._feature[node] >= 0:
                seen[node, self._feature[node]] = True
                seen[self._children[node]] = seen[node]
        return seen

    def nodes(self, x: Tensor) -> np.ndarray:
        """Return the node in which each row ends, int64 ``[n]``; a leaf if nothing is missing."""
        rows = x.double().reshape(len(x), -1).numpy()
        at = np.zeros(len(rows), dtype=np.int64)
        moving = np.arange(len(rows))
        while len(moving):
            node = at[moving]
            split = self._feature[node]
            # Leaves have feature -2; their rows read the first column and stay where they are.
            value = rows[moving, np.maximum(split, 0)]
            go = (split >= 0) & ~np.isnan(value)
            moving, node, value = moving[go], node[go], value[go]
            at[moving] = self._children[node, (value > self._threshold[node]).astype(np.int64)]
        return at

    def _scores(self, x: Tensor) -> np.ndarray:
        node = self.nodes(x)
        shown = np.zeros((len(node), self.num_classes))
        shown[np.arange(len(node)), self._value[node].astype(np.int64)] = self._confidence[node]
        return shown

    def _labels(self, x: Tensor) -> np.ndarray:
        found: np.ndarray = self._value[self.nodes(x)].astype(np.int64)
        return found

    def _embeddings(self, x: Tensor) -> np.ndarray:
        node = self.nodes(x)
        return np.column_stack([self._value[node], self._confidence[node], self._seen[node]])


class _Values:
    """A regression tree in the dress of a classifier, which the adapter asks for."""

    def __init__(self, tree: Any) -> None:
        self.tree, self.classes_, self.n_features_in_ = tree, np.arange(2), tree.n_features_in_

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Refuse by being no class: a regression tree has none."""
        return np.asarray(self.tree.predict(x))


def _shown(share: np.ndarray, rows: np.ndarray, how: LeafIdentity) -> np.ndarray:
    if how.confidence == "purity":
        return share
    if how.confidence == "node":
        return np.asarray(np.arange(1, len(share) + 1) / (len(share) + 1))
    z, n = 1.959963984540054, rows.astype(np.float64)
    spread = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return np.asarray((share + z * z / (2 * n) - spread) / (1 + z * z / n))
