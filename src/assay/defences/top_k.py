"""Only the largest scores of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput
from assay.model import Model
from assay.registry import register

__all__ = ["TopK", "TopOne"]


@register("top-k", kind="defence")
@dataclass(frozen=True, kw_only=True)
class TopK(Defence):
    """Show the largest scores of each row and 0 for all others.

    Parameters
    ----------
    k
        Scores shown, at least 1; of equal ones, those of the first classes.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x, (3,), outputs="probabilities")
    >>> TopK(k=2).wear(model).scores(torch.tensor([[0.5, 0.125, 0.375]])).tolist()
    [[0.5, 0.0, 0.375]]
    """

    name: ClassVar[str] = "top-k"

    k: int = 5

    def __post_init__(self) -> None:
        if self.k < 1:
            msg = f"k must be at least 1, got {self.k}"
            raise InvalidInput(msg)

    def wear(self, model: Model) -> Dressed:
        """Return ``model`` with the other scores hidden."""
        return _Cut(model, self, self.k)


@register("top-1", kind="defence")
@dataclass(frozen=True, kw_only=True)
class TopOne(Defence):
    """Show the score of the predicted class and 0 for all others.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x, (3,), outputs="probabilities")
    >>> TopOne().wear(model).scores(torch.tensor([[0.5, 0.125, 0.375]])).tolist()
    [[0.5, 0.0, 0.0]]
    """

    name: ClassVar[str] = "top-1"

    def wear(self, model: Model) -> Dressed:
        """Return ``model`` with the other scores hidden."""
        return _Cut(model, self, 1)


class _Cut(Dressed):
    def __init__(self, model: Model, defence: Defence, k: int) -> None:
        super().__init__(model, defence, complete=k >= model.num_classes)
        self._k = k

    def _scores(self, x: Tensor) -> np.ndarray:
        scores = self._plain(x)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self._k]
        shown = np.zeros_like(scores)
        np.put_along_axis(shown, order, np.take_along_axis(scores, order, axis=1), axis=1)
        return shown
