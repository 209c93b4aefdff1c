"""Logistic models from their weights and back: softmax, binary, one-vs-rest."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import LabelBinarizer
from torch import nn

__all__ = ["Kind", "as_one_vs_rest", "as_softmax", "linear_error", "linear_truth"]

Kind = Literal["softmax", "one-vs-rest"]
_BINARY = 2


def as_softmax(coef: np.ndarray, intercept: np.ndarray) -> LogisticRegression:
    """Return a fitted `LogisticRegression` with these weights.

    Parameters
    ----------
    coef, intercept
        float64 ``[c, d]`` and ``[c]``; of two classes only the difference counts.

    Examples
    --------
    >>> model = as_softmax(np.array([[0.0, 0.0], [1.0, -1.0]]), np.zeros(2))
    >>> model.predict([[3.0, 1.0], [1.0, 3.0]]).tolist()
    [1, 0]
    """
    model = LogisticRegression()
    if len(coef) == _BINARY:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    model.coef_, model.intercept_ = coef.copy(), intercept.copy()
    model.classes_ = np.arange(max(len(coef), _BINARY))
    model.n_features_in_ = coef.shape[1]
    model.n_iter_ = np.zeros(1, dtype=np.int32)
    return model


def as_one_vs_rest(coef: np.ndarray, intercept: np.ndarray) -> OneVsRestClassifier:
    """Return a fitted `OneVsRestClassifier` of logistic regressions, ``[c, d]`` and ``[c]``, c > 2."""
    model = OneVsRestClassifier(LogisticRegression())
    pair = np.zeros_like(coef[0])
    model.estimators_ = [
        as_softmax(np.stack([pair, w]), np.array([0.0, b])) for w, b in zip(coef, intercept, strict=True)
    ]
    model.label_binarizer_ = LabelBinarizer().fit(np.arange(len(coef)))
    model.classes_ = model.label_binarizer_.classes_
    model.n_features_in_ = coef.shape[1]
    return model


def linear_truth(truth: Any) -> tuple[Kind, np.ndarray, np.ndarray] | None:
    """Return kind, ``[c, d]`` weights and ``[c]`` biases of a model that is linear, None otherwise.

    Understood are `LogisticRegression`, `OneVsRestClassifier` of it, `torch.nn.Linear`, and
    the pair of arrays itself (read as softmax).
    """
    if isinstance(truth, LogisticRegression) and hasattr(truth, "coef_"):
        return "softmax", *_pair(truth.coef_, truth.intercept_)
    if isinstance(truth, OneVsRestClassifier) and hasattr(truth, "estimators_"):
        parts = [linear_truth(each) for each in truth.estimators_]
        rows = [(part[1][1], part[2][1]) for part in parts if part is not None]
        if len(rows) < len(parts) or any(len(part[1]) != _BINARY for part in parts if part is not None):
            return None
        if len(rows) == 1:
            return "softmax", *_pair(rows[0][0][None], np.array([rows[0][1]]))
        return "one-vs-rest", np.stack([w for w, _ in rows]), np.array([b for _, b in rows])
    if isinstance(truth, nn.Linear):
        bias = np.zeros(truth.out_features) if truth.bias is None else truth.bias.detach().double().numpy()
        return "softmax", truth.weight.detach().double().numpy(), bias
    if isinstance(truth, tuple) and len(truth) == 2:  # noqa: PLR2004 - weights, biases
        return "softmax", *_pair(np.asarray(truth[0]), np.asarray(truth[1]))
    return None


def linear_error(kind: Kind, coef: np.ndarray, intercept: np.ndarray, truth: Any) -> float | None:
    """Return the largest absolute error of a parameter, None where the truth is of another kind.

    Weights of a softmax are compared after the row of class 0 was subtracted from all: a
    shift common to all classes changes no answer. One-vs-rest has no such freedom.
    """
    known = linear_truth(truth)
    if known is None or known[0] != kind or known[1].shape != coef.shape:
        return None
    found, true = np.column_stack([coef, intercept]), np.column_stack([known[1], known[2]])
    if kind == "softmax":
        found, true = found - found[:1], true - true[:1]
    return float(np.abs(found - true).max())


def _pair(coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of both classes where only their difference is stored."""
    coef, intercept = np.asarray(coef, np.float64), np.asarray(intercept, np.float64).reshape(-1)
    intercept = np.broadcast_to(intercept, len(coef))  # a single 0 without fitted intercept
    if len(coef) > 1:
        return coef, intercept
    return np.concatenate([np.zeros_like(coef), coef]), np.append(0.0, intercept)
