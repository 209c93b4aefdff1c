"""Classifiers that retraining attacks fit to labelled points of the box ``[-1, 1]^d``."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import nn

from assay.extraction.exact.domain import Domain
from assay.extraction.exact.doubt import most_doubtful
from assay.extraction.exact.kernel_width import likeliest_width
from assay.extraction.exact.monomials import Monomials

__all__ = ["Learner", "LinearLearner", "MlpLearner", "SvmLearner", "make_learner"]

# Nearly unregularised, so that separable labels are separated; stopping early keeps the
# plane in the middle of what the labels allow.
_LINEAR_C, _LINEAR_STEPS = 1e8, 1000
_SVM_C = 1e5
_MOST_STEPS = 200_000  # hard margins of close points are never quite reached
_GROWTH = 1.5
_PAIR = 2


class Learner(ABC):
    """What is fitted, and what it becomes for its user.

    Parameters
    ----------
    classes
        Number of classes of the victim; labels may miss some.
    seed
        Of everything random in the fit.
    """

    def __init__(self, classes: int, seed: int = 0) -> None:
        self.classes, self.seed = classes, seed
        self._fitted: Any = None
        self._only = 0

    def fit(self, u: np.ndarray, labels: np.ndarray) -> None:
        """Fit to rows ``[n, d]`` of the unit box and their labels; one label makes a constant."""
        self._only = int(labels[0])
        self._fitted = None
        if (labels != labels[0]).any():
            with warnings.catch_warnings():
                # Separable labels have no finite optimum, and the limit of steps is meant.
                warnings.simplefilter("ignore")
                self._fitted = self._train(u, labels)

    @property
    def constant(self) -> bool:
        """Whether only one label was seen."""
        return self._fitted is None

    def labels(self, u: np.ndarray) -> np.ndarray:
        """Return predicted classes, int64 ``[n]``."""
        if self._fitted is None:
            return np.full(len(u), self._only)
        found: np.ndarray = self._fitted.predict(u)
        return found

    def margins(self, u: np.ndarray) -> np.ndarray:
        """Return how far each row is from a change of label, in the model's own scale."""
        scores = np.asarray(self._margin_scores(u))
        if scores.ndim == 1:
            distance: np.ndarray = np.abs(scores)
            return distance
        best = np.sort(scores, axis=1)
        gap: np.ndarray = best[:, -1] - best[:, -2]
        return gap

    def _margin_scores(self, u: np.ndarray) -> Any:
        return self._fitted.decision_function(u)

    def doubtful(self, pool: np.ndarray, known: np.ndarray, count: int) -> np.ndarray:  # noqa: ARG002 - for subclasses
        """Return positions ``[count]`` of the rows of ``pool`` whose labels are least certain."""
        nearest: np.ndarray = np.argsort(self.margins(pool), kind="stable")[:count]
        return nearest

    def model(self, domain: Domain) -> Any:
        """Return a scikit-learn classifier or torch module that takes rows of ``domain``."""
        if self._fitted is None:
            theta = np.zeros((self.classes, domain.size + 1))
            theta[self._only, -1] = 1.0
            return Monomials(1, domain).estimator(theta)
        return self._model(domain)

    @abstractmethod
    def _train(self, u: np.ndarray, labels: np.ndarray) -> Any:
        """Return a fitted scikit-learn classifier."""

    @abstractmethod
    def _model(self, domain: Domain) -> Any:
        """Return the fitted classifier for rows of ``domain``."""

    @abstractmethod
    def unknowns(self, size: int) -> int:
        """Return the number of parameters by which budgets are counted."""


class LinearLearner(Learner):
    """Logistic or softmax regression with next to no regularisation."""

    def _train(self, u: np.ndarray, labels: np.ndarray) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=_LINEAR_C, max_iter=_LINEAR_STEPS, tol=1e-6).fit(u, labels)

    def _model(self, domain: Domain) -> Any:
        theta = np.zeros((self.classes, domain.size + 1))
        present = self._fitted.classes_
        if len(present) == _PAIR:
            theta[present[1]] = np.r_[self._fitted.coef_[0], self._fitted.intercept_]
        else:
            theta[present] = np.c_[self._fitted.coef_, self._fitted.intercept_]
        absent = np.setdiff1d(np.arange(self.classes), present)
        theta[absent, -1] = -2 * np.abs(theta).sum(axis=1).max() - 1
        return Monomials(1, domain).estimator(theta)

    def unknowns(self, size: int) -> int:
        """Return ``d + 1`` for two classes, ``c (d + 1)`` for more."""
        return size + 1 if self.classes == _PAIR else self.classes * (size + 1)


class SvmLearner(Learner):
    """Support vector machine with a Gaussian kernel, for two classes.

    Parameters
    ----------
    classes, seed
        See `Learner`.
    gamma
        Width of the kernel in the unit box, or None for the one that makes the labels
        likeliest.
    """

    def __init__(self, classes: int, seed: int = 0, gamma: float | None = None) -> None:
        super().__init__(classes, seed)
        self.gamma = gamma
        self._chosen, self._rows = 0.0, 0

    def _train(self, u: np.ndarray, labels: np.ndarray) -> Any:
        from sklearn.svm import SVC

        if self.gamma is None and len(u) >= _GROWTH * self._rows:
            rng = np.random.default_rng(self.seed)
            self._chosen, self._rows = likeliest_width(u, labels, rng), len(u)
        gamma = self._chosen if self.gamma is None else self.gamma
        # Flat kernels reach the same slopes with weights that much larger.
        hardness = _SVM_C * max(1.0, 1 / (gamma * u.shape[1]))
        return SVC(C=hardness, gamma=gamma, max_iter=_MOST_STEPS).fit(u, labels)

    def doubtful(self, pool: np.ndarray, known: np.ndarray, count: int) -> np.ndarray:
        """Return positions ``[count]`` of rows near the boundary and far from ``known`` ones."""
        gamma = float(self._fitted.gamma)
        decide = self._margin_scores
        return most_doubtful(pool, decide(pool), known, decide(known), gamma, min(count, len(pool)))

    def _model(self, domain: Domain) -> Any:
        from sklearn.pipeline import make_pipeline

        return make_pipeline(Monomials(1, domain).scaler(), self._fitted)

    def unknowns(self, size: int) -> int:
        """Return ``d + 1``, by which the literature counts these budgets."""
        return size + 1


class MlpLearner(Learner):
    """Network with one hidden layer of hyperbolic tangents, fitted by L-BFGS.

    Parameters
    ----------
    classes, seed
        See `Learner`.
    hidden
        Hidden units.
    """

    def __init__(self, classes: int, seed: int = 0, hidden: int = 20) -> None:
        super().__init__(classes, seed)
        self.hidden = hidden

    def _train(self, u: np.ndarray, labels: np.ndarray) -> Any:
        from sklearn.neural_network import MLPClassifier

        network = MLPClassifier(
            (self.hidden,),
            activation="tanh",
            solver="lbfgs",
            alpha=1e-3,
            max_iter=500,
            random_state=self.seed,
        )
        return network.fit(u, labels)

    def _margin_scores(self, u: np.ndarray) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(self._fitted.predict_proba(u) + np.finfo(float).tiny)

    def _model(self, domain: Domain) -> nn.Module:
        inner, outer = self._fitted.coefs_
        inner_bias, outer_bias = self._fitted.intercepts_
        present = self._fitted.classes_
        weights, bias = np.zeros((self.classes, self.hidden)), np.zeros(self.classes)
        if len(present) == _PAIR:
            weights[present[1]], bias[present[1]] = outer[:, 0], outer_bias[0]
        else:
            weights[present], bias[present] = outer.T, outer_bias
        absent = np.setdiff1d(np.arange(self.classes), present)
        bias[absent] = -2 * (np.abs(weights).sum(axis=1) + np.abs(bias)).max() - 1
        phi = Monomials(1, domain)
        first = inner.T / phi.half
        network = nn.Sequential(
            nn.Flatten(), _layer(first, inner_bias - first @ phi.middle), nn.Tanh(), _layer(weights, bias)
        )
        return network.eval()

    def unknowns(self, size: int) -> int:
        """Return the weights and biases of both layers."""
        return self.hidden * (size + 1) + self.classes * (self.hidden + 1)


def _layer(weights: np.ndarray, bias: np.ndarray) -> nn.Linear:
    with torch.device("meta"):  # no random start, which would come from the global generator
        layer = nn.Linear(weights.shape[1], weights.shape[0], dtype=torch.float64)
    layer.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(weights)))
    layer.bias = nn.Parameter(torch.from_numpy(np.ascontiguousarray(bias)))
    return layer


def make_learner(
    name: str, classes: int, seed: int, *, hidden: int = 20, gamma: float | None = None
) -> Learner:
    """Return the learner called ``"linear"``, ``"svm-rbf"`` or ``"mlp"``.

    Examples
    --------
    >>> learner = make_learner("linear", 3, 0)
    >>> learner.fit(np.array([[-0.5], [0.5], [0.6], [-0.6]]), np.array([0, 2, 2, 0]))
    >>> learner.model(Domain.box(1)).predict([[-1.0], [1.0]]).tolist(), learner.unknowns(1)
    ([0, 2], 6)
    """
    if name == "svm-rbf":
        return SvmLearner(classes, seed, gamma)
    if name == "mlp":
        return MlpLearner(classes, seed, hidden)
    return LinearLearner(classes, seed)
