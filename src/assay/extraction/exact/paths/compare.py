"""How far the leaves of one scikit-learn tree are from those of another."""

from __future__ import annotations

import math

import numpy as np

from assay.extraction.exact.paths.grid import Floats

__all__ = ["largest_error", "leaf_sides"]


def leaf_sides(tree: object) -> tuple[Floats, Floats]:
    """Return lower and upper sides of every leaf, float64 ``[leaves, d]``; open sides are infinite.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> low, high = leaf_sides(DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1]))
    >>> low.tolist(), high.tolist()
    ([[-inf], [0.5]], [[0.5], [inf]])
    """
    inner = tree.tree_  # type: ignore[attr-defined]  # checked by the caller
    low = np.full((inner.node_count, inner.n_features), -math.inf)
    high = -low
    for node in np.flatnonzero(inner.feature >= 0):
        left, right, feature = inner.children_left[node], inner.children_right[node], inner.feature[node]
        low[[left, right]], high[[left, right]] = low[node], high[node]
        high[left, feature] = low[right, feature] = inner.threshold[node]
    leaves = inner.feature < 0
    return low[leaves], high[leaves]


def largest_error(copy: object, truth: object) -> float | None:
    """Return the largest difference of corresponding sides of corresponding leaves.

    Leaves correspond if a point inside one is inside the other. Infinite where they do
    not correspond one to one, or a side is open in only one of them; None unless both are
    single trees on the same columns.
    """
    if not all(hasattr(tree, "tree_") for tree in (copy, truth)):
        return None
    low, high = leaf_sides(copy)
    true_low, true_high = leaf_sides(truth)
    if low.shape[1] != true_low.shape[1]:
        return None
    if len(low) != len(true_low):
        return math.inf
    inside = _middle(low, high)
    match = ((inside[:, None] > true_low) & (inside[:, None] <= true_high)).all(2).argmax(1)
    if len(set(match.tolist())) != len(match):
        return math.inf
    worst = 0.0
    for ours, theirs in ((low, true_low[match]), (high, true_high[match])):
        open_ = np.isinf(ours) | np.isinf(theirs)
        if (ours[open_] != theirs[open_]).any():
            return math.inf
        if not open_.all():
            worst = max(worst, float(np.abs(ours[~open_] - theirs[~open_]).max()))
    return worst


def _middle(low: Floats, high: Floats) -> Floats:
    """Return a point inside every box, also where sides are open."""
    left = np.where(np.isinf(low), np.where(np.isinf(high), 0.0, high - 1.0), low)
    right = np.where(np.isinf(high), np.where(np.isinf(low), 0.0, low + 1.0), high)
    middle: Floats = 0.5 * (left + right)
    return middle
