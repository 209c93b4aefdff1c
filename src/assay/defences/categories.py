"""A service that takes categories and encodes them itself; features may stay open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput
from assay.model import Access, Model
from assay.registry import register

__all__ = ["Categories"]

_VALUE_AND_CONFIDENCE = 2


@register("categories", kind="defence")
@dataclass(frozen=True, kw_only=True)
class Categories(Defence):
    """Take raw features, categories as codes, in front of a model of their dummies.

    The dummies of a feature that is left out are left out as well, so that a tree service
    (`assay.defences.leaf_identity`) stops at the first split on it. What such a service says
    about the dummies that it looked at is told of their features.

    Parameters
    ----------
    categories
        For each raw feature the number of its categories, whose codes are 0.0, 1.0, ...;
        0 for a number, which is passed on as it is.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x[:, 1:] * 0.5 + 0.25, (3,), outputs="probabilities")
    >>> service = Categories(categories=(0, 2)).wear(model)
    >>> service.scores(torch.tensor([[7.5, 1.0]])).tolist()
    [[0.25, 0.75]]
    """

    name: ClassVar[str] = "categories"
    needs: ClassVar[Access] = Access.NONE

    categories: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.categories or any(k < 0 or k == 1 for k in self.categories):
            msg = f"every feature has 0 or at least 2 categories, got {self.categories}"
            raise InvalidInput(msg)

    @property
    def width(self) -> int:
        """Number of inputs of the model behind."""
        return sum(k or 1 for k in self.categories)

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Return numbers and dummies of raw rows, float64 ``[n, width]``, missing ones as NaN."""
        blocks = []
        for column, k in zip(np.asarray(raw, np.float64).T, self.categories, strict=True):
            dummies = (column[:, None] == np.arange(k)).astype(np.float64)
            dummies[np.isnan(column)] = np.nan
            blocks.append(dummies if k else column[:, None])
        return np.concatenate(blocks, axis=1)

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
        return _Front(model, self)


class _Front(Dressed):
    def __init__(self, model: Model, how: Categories) -> None:
        shown = model.access & (Access.SCORES | Access.EMBEDDINGS)
        super().__init__(model, how, access=shown, input_shape=(len(how.categories),))
        self._how = how

    def _behind(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self._how.encode(x.double().numpy()))

    def _scores(self, x: Tensor) -> np.ndarray:
        return self._plain(self._behind(x))

    def _labels(self, x: Tensor) -> np.ndarray:
        return self._model.labels(self._behind(x)).numpy()

    def _embeddings(self, x: Tensor) -> np.ndarray:
        answer = self._model.embeddings(self._behind(x)).double().numpy()
        if answer.shape[1] != _VALUE_AND_CONFIDENCE + self._how.width:
            return answer
        sizes = [k or 1 for k in self._how.categories]
        starts = np.cumsum([0, *sizes[:-1]])
        looked = np.maximum.reduceat(answer[:, _VALUE_AND_CONFIDENCE:], starts, axis=1)
        return np.column_stack([answer[:, :_VALUE_AND_CONFIDENCE], looked])
