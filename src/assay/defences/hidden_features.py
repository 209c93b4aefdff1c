"""A service that one-hot encodes and bins its inputs before the model sees them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput
from assay.model import Model
from assay.registry import register

__all__ = ["HiddenFeatures"]


@register("hidden-features", kind="defence")
@dataclass(frozen=True, kw_only=True)
class HiddenFeatures(Defence):
    """Take raw features and turn them into dummies of categories and of bins.

    The model behind takes the dummies, 0.0 or 1.0, feature by feature. A feature that is
    left out (NaN) has all its dummies 0, as has the code of an unknown category. Bin ``i``
    of a number is ``(edge[i - 1], edge[i]]``. Scores are shown with 16 significant digits.

    Parameters
    ----------
    edges
        For each raw feature the inner edges of its bins, ascending; empty for a
        categorical one.
    categories
        For each raw feature the number of its categories, whose codes are 0.0, 1.0, ...;
        0 for a number.

    References
    ----------
    Tramèr et al. 2016, section 6.1: feature extraction of Amazon Machine Learning.

    Examples
    --------
    >>> raw = np.array([[0.1, 0.0], [0.2, 1.0], [0.3, 2.0], [0.4, 0.0]])
    >>> service = HiddenFeatures.quantiles(raw, categories=(0, 3), bins=2)
    >>> service.edges, service.width
    (((0.25,), ()), 5)
    >>> service.encode(np.array([[0.3, 2.0], [np.nan, 0.0]])).tolist()
    [[0.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0, 0.0]]
    """

    name: ClassVar[str] = "hidden-features"

    edges: tuple[tuple[float, ...], ...] = ()
    categories: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.edges or len(self.edges) != len(self.categories):
            msg = "hidden features need edges and categories, one entry for each raw feature"
            raise InvalidInput(msg)
        for i, (edges, k) in enumerate(zip(self.edges, self.categories, strict=True)):
            ascending = all(a < b for a, b in itertools.pairwise(edges))
            if (k and edges) or k < 0 or k == 1 or not ascending or not np.isfinite(edges).all():
                msg = f"raw feature {i} needs either at least 2 categories or ascending finite edges"
                raise InvalidInput(msg)

    @classmethod
    def quantiles(cls, raw: np.ndarray, categories: Sequence[int], bins: int = 10) -> HiddenFeatures:
        """Return a service whose bins hold about equally many of the raw rows ``[n, m]``.

        Quantiles that coincide make fewer bins.
        """
        if bins < 1 or raw.ndim != 2 or raw.shape[1] != len(categories):  # noqa: PLR2004 - [n, m]
            msg = f"{bins} bins of raw rows {list(raw.shape)} with {len(categories)} features make no sense"
            raise InvalidInput(msg)
        inner = np.arange(1, bins) / bins
        edges = []
        for i, k in enumerate(categories):
            cuts = np.unique(np.quantile(raw[:, i], inner)) if k == 0 else np.empty(0)
            # An edge at the largest value would leave its bin empty.
            edges.append(tuple(float(c) for c in cuts if c < raw[:, i].max()))
        return cls(edges=tuple(edges), categories=tuple(int(k) for k in categories))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of dummies of each raw feature."""
        return tuple(k or len(e) + 1 for e, k in zip(self.edges, self.categories, strict=True))

    @property
    def width(self) -> int:
        """Number of dummies in all: the inputs of the model behind."""
        return sum(self.sizes)

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Return the dummies of raw rows, float64 ``[n, width]``."""
        blocks = []
        for column, edges, size in zip(raw.T, self.edges, self.sizes, strict=True):
            code = np.searchsorted(np.array(edges), column, side="left") if edges else column
            code = np.where(np.isnan(column), -1.0, 0.0 if size == 1 else code)
            blocks.append(code[:, None] == np.arange(size))
        return np.concatenate(blocks, axis=1).astype(np.float64)

    def wear(self, model: Model) -> Dressed:
        """Return the service in front of a model of the dummies.

        Raises
        ------
        InvalidInput
            If the model takes another number of inputs.
        """
        if tuple(model.input_shape) != (self.width,):
            msg = f"{model.name} takes inputs of shape {tuple(model.input_shape)}, not ({self.width},)"
            raise InvalidInput(msg)
        return _Service(model, self)


class _Service(Dressed):
    def __init__(self, model: Model, features: HiddenFeatures) -> None:
        super().__init__(model, features, missing=True, input_shape=(len(features.edges),))
        self._features = features

    def _scores(self, x: Tensor) -> np.ndarray:
        dummies = self._features.encode(x.double().numpy())
        scores = self._plain(torch.from_numpy(dummies))
        # 16 significant digits, the most that the service prints.
        with np.errstate(divide="ignore"):
            size = np.where(scores > 0, np.floor(np.log10(scores)), 0.0)
        unit = 10.0 ** (size - 15)
        return np.asarray(np.rint(scores / unit) * unit)
