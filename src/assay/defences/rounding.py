"""Scores rounded to a few decimals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput
from assay.model import Model
from assay.registry import register

__all__ = ["Rounding"]

_MOST = 15


@register("rounding", kind="defence")
@dataclass(frozen=True, kw_only=True)
class Rounding(Defence):
    """Round every score to a few decimals.

    The label stays that of the unrounded scores.

    Parameters
    ----------
    digits
        Decimals kept, 0 to 15.
    renormalise
        Whether rows are divided by their sum afterwards. Services that do not
        renormalise show rows that need not sum to 1.

    References
    ----------
    Tramèr et al., "Stealing Machine Learning Models via Prediction APIs", USENIX
    Security 2016, section 7.

    Examples
    --------
    >>> import torch
    >>> from sklearn.linear_model import LogisticRegression
    >>> from assay.adapters.sklearn_model import SklearnModel
    >>> model = SklearnModel(LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 0, 1]))
    >>> Rounding(digits=1).wear(model).scores(torch.zeros(1, 1))
    tensor([[0.8000, 0.2000]], dtype=torch.float64)
    """

    name: ClassVar[str] = "rounding"

    digits: int = 3
    renormalise: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= _MOST:
            msg = f"digits must lie in 0 to {_MOST}, got {self.digits}"
            raise InvalidInput(msg)

    def wear(self, model: Model) -> Dressed:
        """Return ``model`` with rounded scores."""
        return _Rounded(model, self)


class _Rounded(Dressed):
    def __init__(self, model: Model, rounding: Rounding) -> None:
        super().__init__(model, rounding, complete=rounding.renormalise)
        self._how = rounding

    def _scores(self, x: Tensor) -> np.ndarray:
        rounded = np.round(self._plain(x), self._how.digits)
        if not self._how.renormalise:
            return rounded
        total = rounded.sum(axis=1, keepdims=True)
        # Many classes of small scores may all round to 0.
        even = np.full_like(rounded, 1 / self.num_classes)
        return np.where(total > 0, rounded / np.where(total > 0, total, 1.0), even)

    def _labels(self, x: Tensor) -> np.ndarray:
        return self._model.labels(x).numpy()
