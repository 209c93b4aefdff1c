"""What an exact attack found: a real estimator or network, and its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from assay.adapters.base import BatchedModel
from assay.adapters.sklearn_model import SklearnModel
from assay.adapters.torch_model import TorchModel
from assay.errors import InvalidInput
from assay.extraction.exact.exposure import Leak

__all__ = ["Recovered"]


@dataclass(frozen=True, eq=False)
class Recovered:
    """The recovered model with what is known about its recovery.

    Parameters
    ----------
    model
        A fitted scikit-learn classifier whose ``classes_`` are 0 to ``num_classes - 1``,
        taking flat rows, or a torch module from inputs to logits (float64 where
        exactness is the point).
    family
        The model class that was assumed, in words: ``"softmax regression"``.
    unknowns
        Free parameters of that class.
    bound
        Fewest queries that could identify them.
    parameters
        Name to float64 array, in the form that the attack documents; saved beside the
        model.
    flags
        What went otherwise than planned, in short words: ``"rank-deficient"``.
    details
        Numbers and words for the record; plain JSON values.
    leak
        Which of the parameters are inputs, where some are: training rows, inverted classes.
    """

    model: Any
    family: str
    unknowns: int
    bound: int
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    leak: Leak | None = None

    def opened(self, input_shape: Sequence[int], num_classes: int, name: str = "copy") -> BatchedModel:
        """Return the recovered model as something that can be asked.

        Raises
        ------
        InvalidInput
            If it is neither a classifier nor a network, or has another number of classes.
        """
        if isinstance(self.model, nn.Module):
            return TorchModel(self.model, input_shape, num_classes, name=name)
        opened = SklearnModel(self.model, input_shape, name=name)
        if opened.num_classes != num_classes:
            msg = f"{name} has {opened.num_classes} classes, the victim has {num_classes}"
            raise InvalidInput(msg)
        return opened
