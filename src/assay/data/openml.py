"""Sets of openml.org, through scikit-learn's checked and cached downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from assay.data.catalogue import Card, source
from assay.data.dataset import Dataset
from assay.data.table import Missing, one_hot, table_dataset
from assay.errors import InvalidInput

__all__ = ["openml"]


@source("openml", Card("hub", "thousands of sets", "openml:NAME on a connected machine", "as each set says"))
def openml(
    name: str,
    version: int = 1,
    shape: str = "",
    missing: Missing = "refuse",
    scale: bool = True,  # noqa: FBT001, FBT002 - a spec names it
    cache: str | None = None,
) -> Dataset:
    """OpenML classification set: ``openml:adult``, ``openml:mnist_784:shape=1x28x28``.

    Parameters
    ----------
    name
        The set's name on openml.org.
    version
        Its version there.
    shape
        For images stored as rows of bytes: ``channels x height x width``, as in
        ``1x28x28``; pixels are divided by 255. Empty for tables, whose categories are
        one-hot encoded and whose columns are scaled.
    missing
        What to do with rows that miss values: ``refuse`` them, ``drop`` them, or, for
        columns of categories, let them be of no ``category``.
    scale
        Whether a table's columns are scaled to [0, 1] over their observed span.
    cache
        Folder for downloads; scikit-learn's if None.

    Raises
    ------
    InvalidInput
        If the set cannot be fetched, is no classification, or does not fit ``shape``.
    """
    bunch = _fetch(name, version, cache)
    data, target = np.asarray(bunch.data), np.asarray(bunch.target)
    if data.ndim != 2 or data.dtype.kind not in "fiub" or target.shape != data.shape[:1]:  # noqa: PLR2004
        msg = f"openml:{name} is no dense table with one class column ({data.dtype} {list(data.shape)})"
        raise InvalidInput(msg)
    if target.dtype.kind == "f":
        msg = f"openml:{name} has a target of numbers; it is a regression, not a classification"
        raise InvalidInput(msg)
    complete = ~np.isin(target.astype(str), ("None", "nan", "")) & ~_holes(data, bunch, missing)
    if missing != "drop" and not complete.all():
        msg = f"openml:{name}: {int((~complete).sum()):,} rows miss values; choose missing=drop"
        raise InvalidInput(msg)
    if not complete.any():
        msg = f"openml:{name}: every row misses a value; choose missing=category, or another set"
        raise InvalidInput(msg)
    data, texts = data[complete], target[complete].astype(str)
    classes, y = np.unique(texts, return_inverse=True)
    if len(classes) > 1000:  # noqa: PLR2004 - as for CSV tables
        msg = f"openml:{name} has {len(classes):,} classes in {len(y):,} rows; it is no classification set"
        raise InvalidInput(msg)
    labels = tuple(str(c) for c in classes)
    if shape:
        return Dataset.from_arrays(_as_images(data, shape, name), y, labels, name=name)
    return table_dataset(_encode(data, bunch), y, labels, scale=scale, name=name)


def _fetch(name: str, version: int, cache: str | None) -> Any:
    from sklearn import datasets

    home = None if cache is None else str(Path(cache).expanduser())
    try:
        # The liac-arff parser needs no pandas and gives categories as codes with their names.
        return datasets.fetch_openml(
            name, version=version, as_frame=False, parser="liac-arff", data_home=home
        )
    except (OSError, ValueError, ImportError) as error:
        msg = f"cannot fetch openml:{name} version {version}: {error}; check the name and the connection"
        raise InvalidInput(msg) from error


def _as_images(data: np.ndarray, shape: str, name: str) -> np.ndarray:
    try:
        channels, height, width = (int(s) for s in shape.lower().split("x"))
        pixels = data.reshape(-1, channels, height, width)
    except ValueError as error:
        msg = f"openml:{name} has {data.shape[1]} columns, which are no images of shape {shape!r}"
        raise InvalidInput(msg) from error
    if data.min() < 0 or data.max() > 255 or (data != np.round(data)).any():  # noqa: PLR2004
        msg = f"openml:{name} does not hold bytes, so it cannot be read as images"
        raise InvalidInput(msg)
    return pixels.astype(np.uint8)


def _holes(data: np.ndarray, bunch: Any, missing: Missing) -> np.ndarray:
    """Rows with a NaN that the policy for missing values does not accept."""
    nan = np.isnan(data.astype(np.float64))
    if missing == "category":
        categories = getattr(bunch, "categories", None) or {}
        nan[:, [bool(categories.get(feature)) for feature in bunch.feature_names]] = False
    return np.asarray(nan.any(axis=1))


def _encode(data: np.ndarray, bunch: Any) -> np.ndarray:
    categories = getattr(bunch, "categories", None) or {}
    blocks = []
    for j, feature in enumerate(bunch.feature_names):
        column = data[:, j].astype(np.float64)
        known = categories.get(feature)
        # A NaN code equals no category: its row is all zeros.
        blocks.append(one_hot(column, len(known)) if known else column[:, None])
    return np.concatenate(blocks, axis=1)
