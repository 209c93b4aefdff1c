"""Inputs of which features may be left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput
from assay.model import Model
from assay.registry import register

__all__ = ["Incomplete"]


@register("incomplete", kind="defence")
@dataclass(frozen=True, kw_only=True)
class Incomplete(Defence):
    """Accept NaN for a feature that is left out, and put one value in its place.

    A convenience of some services rather than a defence: refusing such queries is the
    countermeasure.

    Parameters
    ----------
    fill
        The value, finite; 0 as for the dummy columns of an unknown category.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x, (2,), outputs="probabilities")
    >>> Incomplete(fill=1.0).wear(model).scores(torch.tensor([[0.0, torch.nan]])).tolist()
    [[0.0, 1.0]]
    """

    name: ClassVar[str] = "incomplete"

    fill: float = 0.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.fill):
            msg = f"the value of a missing feature must be finite, got {self.fill}"
            raise InvalidInput(msg)

    def wear(self, model: Model) -> Dressed:
        """Return ``model`` that accepts incomplete inputs."""
        return _Filled(model, self)


class _Filled(Dressed):
    def __init__(self, model: Model, how: Incomplete) -> None:
        super().__init__(model, how, missing=True)
        self._fill = how.fill

    def _scores(self, x: Tensor) -> np.ndarray:
        return self._plain(torch.where(torch.isnan(x), torch.full_like(x, self._fill), x))
