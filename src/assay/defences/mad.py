"""Prediction poisoning: answers that turn a copier's gradients away, in closed form."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from assay.defences.answering import Answering, Asked, FloatArray
from assay.errors import InvalidInput, UnknownName
from assay.registry import nearest, register

__all__ = ["MaximumAngle", "Search", "best_transfer", "deflection", "extreme", "poison"]

Search = Literal["transfer", "published"]
_WIDEST = 2.0
# With label kept, changes stop short of where classes tie: visible in float32 as well.
_FURTHEST = 0.999
_CLASSES = 64


@register("mad", kind="defence")
@dataclass(frozen=True, kw_only=True)
class MaximumAngle(Answering):
    """Turn the gradient of a copier's last layer as far as a budget of change allows.

    Maximising angular deviation (MAD): seen from a surrogate whose last layer is still
    undecided, the gradient for an answer ``y`` is ``(y - 1/k)`` times the features, whatever
    they are. The features cancel in the angle, so that the best answer follows from the
    scores alone: no surrogate, no Jacobian, no search by trial.

    Parameters
    ----------
    budget
        Largest sum of absolute changes of a row, 0 to 2. Without ``keep_label``, budgets of 1
        and more change the label of every sure answer.
    keep_label
        Whether the class of the largest score must stay.
    search
        Among which answers the best one is taken. ``"transfer"``: all that move probability from
        one class to one other within the budget. ``"published"``: the extreme points of
        the allowed answers are compared where they are, and the answer moves towards the best one
        until the budget is used; with the label kept, that turns gradients a tenth as far.

    References
    ----------
    Orekondy, Schiele and Fritz, "Prediction Poisoning: Towards Defenses Against DNN Model
    Stealing Attacks", ICLR 2020, section 4 (MAD and MAD-argmax).

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x, (3,), outputs="probabilities")
    >>> x = torch.tensor([[0.75, 0.25, 0.0]])
    >>> MaximumAngle(budget=0.5).wear(model).scores(x).numpy().round(2).tolist()
    [[0.5, 0.5, 0.0]]
    >>> MaximumAngle(budget=0.5, search="published").wear(model).scores(x).tolist()
    [[0.625, 0.125, 0.25]]
    """

    name: ClassVar[str] = "mad"

    budget: float = 0.5
    keep_label: bool = True
    search: Search = "transfer"

    def __post_init__(self) -> None:
        if not 0 <= self.budget <= _WIDEST:
            msg = f"the budget of changes must lie in 0 to 2, got {self.budget}"
            raise InvalidInput(msg)
        if self.search not in typing.get_args(Search):
            raise UnknownName(nearest(self.search, list(typing.get_args(Search)), "search"))

    def answer(self, scores: FloatArray, asked: Asked) -> FloatArray:  # noqa: ARG002 - the same for everybody
        """Return poisoned scores, float64 ``[n, k]``."""
        how = best_transfer if self.search == "transfer" else poison
        return how(scores, budget=self.budget, keep_label=self.keep_label)


def best_transfer(scores: FloatArray, *, budget: float, keep_label: bool) -> FloatArray:
    r"""Return the answers whose gradients point furthest from the honest ones, for one transfer each.

    Parameters
    ----------
    scores
        float64 ``[n, k]``, rows that sum to 1.
    budget
        Up to half of it moves from one class to one other.
    keep_label
        Whether the class of the largest score must stay the largest.

    Returns
    -------
    numpy.ndarray
        float64 ``[n, k]``. Even rows have no direction that could be turned; they stay.

    Notes
    -----
    Moving ``t`` from class ``i`` to ``j`` along a straight line turns ever further, so that the
    largest possible ``t`` is best for each pair. With ``v = y - 1/k`` and ``z = t (y_j - y_i)`` the cosine
    is ``(v.v + z) / sqrt(v.v (v.v + 2 z + 2 t^2))``, and all pairs are compared. Beyond 64
    classes those are the pairs among the 63 likeliest classes and the least likely one: the
    rest have at most 1/64 each to move.

    Examples
    --------
    >>> best_transfer(np.array([[0.75, 0.25, 0.0]]), budget=0.5, keep_label=False).tolist()
    [[0.5, 0.5, 0.0]]
    """
    n, k = scores.shape
    order = np.argsort(-scores, axis=1, kind="stable")
    order = order if k <= _CLASSES else np.concatenate([order[:, : _CLASSES - 1], order[:, -1:]], axis=1)
    y = np.take_along_axis(scores, order, axis=1)
    amount = _amounts(y, budget / 2, keep_label=keep_label)
    length = ((scores - 1 / k) ** 2).sum(axis=1)[:, None, None]
    turn = amount * (y[:, None, :] - y[:, :, None])
    square = np.maximum(length + 2 * turn + 2 * amount**2, 0.0)
    # At the even answer itself there is no direction.
    cosine = np.where(square > 0, (length + turn) / np.sqrt(np.where(square > 0, square, 1.0)), np.inf)
    width = y.shape[1]
    best = cosine.reshape(n, width**2).argmin(axis=1)
    source, target = best // width, best % width
    row = np.arange(n)
    moved = np.where(length[:, 0, 0] > 0, amount[row, source, target], 0.0)
    shown = scores.copy()
    shown[row, order[row, source]] -= moved
    shown[row, order[row, target]] += moved
    return np.clip(shown, 0.0, None)


def _amounts(y: FloatArray, half: float, *, keep_label: bool) -> NDArray[np.float64]:
    """Return how much may move from class to class, ``[n, from, to]``; classes by falling score."""
    amount = np.broadcast_to(np.minimum(y, half)[:, :, None], (*y.shape, y.shape[1])).copy()
    diagonal = np.arange(y.shape[1])
    amount[:, diagonal, diagonal] = 0.0
    if keep_label:
        room = (y[:, :1] - y) * _FURTHEST
        amount[:, 1:, 1:] = np.minimum(amount[:, 1:, 1:], room[:, None, 1:])
        # What the first class gives away counts twice against the one that gets it, and once
        # against the likeliest of the others.
        third = np.broadcast_to(room[:, 1:2], room[:, 1:].shape).copy()
        third[:, 0] = room[:, 2] if y.shape[1] > 2 else np.inf  # noqa: PLR2004 - two classes have no third
        amount[:, 0, 1:] = np.minimum(amount[:, 0, 1:], np.minimum(room[:, 1:] / 2, third))
    return amount


def extreme(scores: FloatArray, *, keep_label: bool) -> FloatArray:
    r"""Return the extreme answers whose gradients point furthest from the honest ones.

    Parameters
    ----------
    scores
        float64 ``[n, k]``, rows that sum to 1.
    keep_label
        Whether extreme answers are even ones over classes that hold the predicted one, or
        single classes.

    Returns
    -------
    numpy.ndarray
        float64 ``[n, k]``.

    Notes
    -----
    With ``u = 1/k`` the objective is the angle between ``a - u`` and ``y - u``. For a single
    class ``j`` its cosine grows with ``y_j``: the least likely class is best. For the even
    answer over ``m`` classes, the length of ``a - u`` depends on ``m`` only, and the cosine
    grows with the sum of their scores: beside the predicted class the ``m - 1`` least likely
    ones are best, which leaves ``k - 1`` values of ``m`` to compare.

    Examples
    --------
    >>> extreme(np.array([[0.75, 0.25, 0.0]]), keep_label=True).tolist()
    [[0.5, 0.0, 0.5]]
    """
    n, k = scores.shape
    found = np.zeros_like(scores, dtype=np.float64)
    if not keep_label:
        found[np.arange(n), scores.argmin(axis=1)] = 1.0
        return found
    label = scores.argmax(axis=1)
    order = np.argsort(scores, axis=1, kind="stable")
    # The predicted class comes first, the others follow from the least likely one on.
    rest = order[order != label[:, None]].reshape(n, k - 1)
    order = np.concatenate([label[:, None], rest], axis=1)
    sums = np.take_along_axis(scores, order, axis=1).cumsum(axis=1)[:, : k - 1]
    m = np.arange(1, k)
    cosine = (sums / m - 1 / k) / np.sqrt(1 / m - 1 / k)
    best = cosine.argmin(axis=1) + 1
    np.put_along_axis(found, order, (np.arange(k) < best[:, None]) / best[:, None], axis=1)
    return found


def poison(scores: FloatArray, *, budget: float, keep_label: bool) -> FloatArray:
    """Return scores moved towards their extreme answers by at most ``budget``.

    Examples
    --------
    >>> moved = poison(np.array([[0.75, 0.25, 0.0]]), budget=0.5, keep_label=True)
    >>> moved.round(3).tolist(), float(np.abs(moved - [[0.75, 0.25, 0.0]]).sum())
    ([[0.625, 0.125, 0.25]], 0.5)
    """
    target = extreme(scores, keep_label=keep_label)
    way = np.abs(target - scores).sum(axis=1, keepdims=True)
    part = np.minimum(budget / np.where(way > 0, way, 1.0), _FURTHEST if keep_label else 1.0)
    # An even answer has no direction that could be turned.
    undecided = np.ptp(scores, axis=1, keepdims=True) == 0
    return np.where(undecided, scores, scores + part * (target - scores))


def deflection(scores: FloatArray, shown: FloatArray) -> FloatArray:
    """Return how far the gradients of an undecided surrogate were turned, float64 ``[n]``.

    The squared distance of the two directions, 0 to 4; 2 is a right angle. 0 where either
    answer is even and has no direction.

    Examples
    --------
    >>> deflection(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])).round(9).tolist()
    [4.0]
    """
    a, b = scores - 1 / scores.shape[1], shown - 1 / shown.shape[1]
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / np.where(length > 0, length, 1.0)
    return np.where(length > 0, 2 - 2 * np.clip(cosine, -1.0, 1.0), 0.0)
