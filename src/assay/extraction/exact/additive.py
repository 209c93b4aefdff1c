"""A logistic model whose features act one by one: through bins, categories or a slope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

__all__ = ["AdditiveLogistic"]


class AdditiveLogistic(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped library
    """Softmax of a bias plus one term for each feature, as a scikit-learn classifier.

    Parameters
    ----------
    intercept
        float64 ``[c]``.
    edges
        For each feature the inner edges of its bins; bin ``i`` is
        ``(edge[i - 1], edge[i]]``. For a categorical feature with ``k`` categories the
        edges are 0.5, 1.5, ...; a feature with a slope has none.
    weights
        For each feature float64 ``[len(edges) + 1, c]``, the term of each bin.
    slopes
        float64 ``[d, c]``, zero for features with bins.

    Examples
    --------
    >>> step = AdditiveLogistic(np.zeros(2), [np.array([0.5])], [np.array([[0, 0], [0, 3.0]])])
    >>> step.predict(np.array([[0.5], [0.6]])).tolist()
    [0, 1]
    """

    def __init__(
        self,
        intercept: np.ndarray,
        edges: Sequence[np.ndarray],
        weights: Sequence[np.ndarray],
        slopes: np.ndarray | None = None,
    ) -> None:
        self.intercept = intercept
        self.edges = edges
        self.weights = weights
        self.slopes = slopes

    @property
    def classes_(self) -> np.ndarray:
        """0 to c - 1."""
        return np.arange(len(self.intercept))

    @property
    def n_features_in_(self) -> int:
        """Raw features."""
        return len(self.edges)

    def fit(self, x: Any, y: Any) -> AdditiveLogistic:  # noqa: ARG002 - scikit-learn's signature
        """Return the model as it is: its numbers were given."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Return float64 ``[n, c]`` for raw rows ``[n, d]``; missing features add nothing."""
        x = np.asarray(x, dtype=np.float64)
        z = np.tile(np.asarray(self.intercept, dtype=np.float64), (len(x), 1))
        for i, (edges, weights) in enumerate(zip(self.edges, self.weights, strict=True)):
            there = ~np.isnan(x[:, i])
            z[there] += np.asarray(weights)[np.searchsorted(edges, x[there, i], side="left")]
            if self.slopes is not None:
                z[there] += x[there, i, None] * self.slopes[i]
        return z

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 ``[n, c]``."""
        return np.asarray(softmax(self.decision_function(x), axis=1))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return classes, int64 ``[n]``."""
        return np.asarray(self.decision_function(x).argmax(axis=1))
