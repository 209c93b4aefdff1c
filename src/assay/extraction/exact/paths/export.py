"""A found tree as a real scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.extraction.exact.paths.boxes import Boxes
from assay.extraction.exact.paths.grid import Floats, Grid
from assay.extraction.exact.paths.partition import Piece
from assay.extraction.exact.paths.refine import splits

__all__ = ["estimator", "tree_arrays"]

_LEAF, _NOWHERE = -1, -2


def tree_arrays(
    grid: Grid, found: Boxes, root: Piece, thresholds: dict[int, float], values: Floats
) -> dict[str, np.ndarray]:
    """Write a tree as arrays, one entry a node, in the order and the words of scikit-learn.

    Parameters
    ----------
    grid, found, root
        The tree, simplified: each leaf has one box.
    thresholds
        What `assay.extraction.exact.paths.refine.refine` returned; other splits lie halfway between
        two grid positions.
    values
        What each identity predicts, float64 ``[identities, k]``.

    Returns
    -------
    dict
        ``children_left``, ``children_right``, ``feature`` (a column of what
        `estimator`'s encoder makes), ``threshold``, ``value`` ``[nodes, k]``.
    """
    columns = _columns(grid)
    names = {id(piece): index for index, piece in enumerate(splits(root))}
    rows: list[tuple[int, int, int, float, Floats]] = []

    def write(piece: Piece) -> int:
        here = len(rows)
        if not piece.children:
            rows.append((_LEAF, _LEAF, _NOWHERE, float(_NOWHERE), values[found.identities[piece.boxes[0]]]))
            return here
        rows.append((_LEAF, _LEAF, _NOWHERE, 0.0, values[0]))
        left, right = (write(child) for child in piece.children)
        feature, position = piece.feature, piece.position
        column = columns[feature]
        if grid.categorical[feature]:
            column, threshold = column + position, 0.5
        else:
            ends = np.repeat(np.zeros((1, grid.size), np.int64), 2, 0)
            ends[:, feature] = position, position + 1
            halfway = float(grid.values(ends)[:, feature].mean())
            threshold = thresholds.get(names[id(piece)], halfway)
        # The scikit-learn value of an inner node is the mean of its training rows; we have none.
        rows[here] = (left, right, column, threshold, 0.5 * (rows[left][4] + rows[right][4]))
        return here

    write(root)
    left, right, feature, threshold, value = zip(*rows, strict=True)
    return {
        "children_left": np.array(left, np.int64),
        "children_right": np.array(right, np.int64),
        "feature": np.array(feature, np.int64),
        "threshold": np.array(threshold, np.float64),
        "value": np.array(value, np.float64),
    }


def estimator(grid: Grid, arrays: dict[str, np.ndarray], *, classes: int | None) -> Any:
    """Build a scikit-learn tree; with categorical features, a pipeline that encodes them first.

    Parameters
    ----------
    grid
        Tells which features are categorical.
    arrays
        See `tree_arrays`.
    classes
        Number of classes, None for a regression tree.

    Returns
    -------
    sklearn.tree.DecisionTreeClassifier, DecisionTreeRegressor or sklearn.pipeline.Pipeline
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    coded = np.flatnonzero(grid.categorical)
    width = int((grid.levels[coded] + 1).sum()) + grid.size - len(coded)
    tree = _fitted(arrays, width, classes)
    if not len(coded):
        return tree
    codes = [np.arange(grid.levels[f] + 1, dtype=np.float64) for f in coded]
    encoder = OneHotEncoder(categories=codes, handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("codes", encoder, coded.tolist())], remainder="passthrough")
    # Fitting learns the number of columns only: the categories are given.
    columns.fit(np.where(grid.categorical, 0.0, grid.low)[None])
    return Pipeline([("encode", columns), ("tree", tree)])


def _columns(grid: Grid) -> list[int]:
    """Return where each feature starts behind the encoder: categories first, then the others."""
    starts = [0] * grid.size
    column = 0
    for feature in [*np.flatnonzero(grid.categorical), *np.flatnonzero(~grid.categorical)]:
        starts[int(feature)] = column
        column += int(grid.levels[feature]) + 1 if grid.categorical[feature] else 1
    return starts


def _fitted(arrays: dict[str, np.ndarray], features: int, classes: int | None) -> Any:
    """Return an estimator as if it had been fitted, its tree filled from arrays."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
    from sklearn.tree._tree import Tree

    count = len(arrays["feature"])
    tree = Tree(features, np.array([1 if classes is None else classes], np.intp), 1)
    state = tree.__getstate__()
    # The record type belongs to the installed version; fields that it lacks or adds stay zero.
    nodes = np.zeros(count, state["nodes"].dtype)
    leaf = arrays["feature"] < 0
    weight = np.where(leaf, 1, 0)
    for index in range(count - 1, -1, -1):  # children come after their parents
        if not leaf[index]:
            weight[index] = weight[arrays["children_left"][index]] + weight[arrays["children_right"][index]]
    for name in ("children_left", "children_right"):
        nodes[{"children_left": "left_child", "children_right": "right_child"}[name]] = arrays[name]
    nodes["feature"], nodes["threshold"] = arrays["feature"], arrays["threshold"]
    nodes["n_node_samples"] = nodes["weighted_n_node_samples"] = weight
    depth = np.zeros(count, np.int64)
    for node in np.flatnonzero(~leaf):
        depth[[arrays["children_left"][node], arrays["children_right"][node]]] = depth[node] + 1
    state |= {
        "max_depth": int(depth.max()),
        "node_count": count,
        "nodes": nodes,
        "values": np.ascontiguousarray(arrays["value"][:, None, :]),
    }
    tree.__setstate__(state)
    found: Any = DecisionTreeRegressor() if classes is None else DecisionTreeClassifier()
    found.tree_, found.n_features_in_, found.n_outputs_, found.max_features_ = tree, features, 1, features
    if classes is not None:
        found.classes_, found.n_classes_ = np.arange(classes), np.int64(classes)
    return found
