"""Several models that answer as one."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from assay.adapters import open_model
from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput, UnknownName
from assay.model import Access, Model, require
from assay.registry import nearest, register

__all__ = ["Ensemble"]

Vote = Literal["mean", "majority"]


@register("ensemble", kind="defence")
@dataclass(frozen=True, kw_only=True)
class Ensemble(Defence):
    """Answer with the mean of several models' scores, or with their votes.

    Parameters
    ----------
    members
        Further models: files, URLs or ``module:function``, as `open_model` takes them.
    vote
        ``"mean"`` of the scores, or shares of a ``"majority"`` vote.

    References
    ----------
    Tramèr et al. 2016, section 7, names ensembles as a countermeasure without a test.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import CallableModel
    >>> one = CallableModel(lambda x: x, (2,), outputs="probabilities")
    >>> other = CallableModel(lambda x: x[:, ::-1], (2,), outputs="probabilities")
    >>> Ensemble().join(one, other).scores(torch.tensor([[1.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """

    name: ClassVar[str] = "ensemble"

    members: tuple[str, ...] = ()
    vote: Vote = "mean"

    def __post_init__(self) -> None:
        if self.vote not in typing.get_args(Vote):
            raise UnknownName(nearest(self.vote, list(typing.get_args(Vote)), "kind of vote"))

    def wear(self, model: Model) -> Dressed:
        """Return ``model`` with the members beside it.

        Raises
        ------
        InvalidInput
            If no members are named, or they do not fit the model.
        """
        return self.join(model, *(open_model(member) for member in self.members))

    def join(self, model: Model, *others: Model) -> Dressed:
        """Return models that are already open as one."""
        if not others:
            msg = "an ensemble needs further members; name them as in members=second.skops,third.skops"
            raise InvalidInput(msg)
        return _Joined(model, others, self)


class _Joined(Dressed):
    def __init__(self, model: Model, others: Sequence[Model], how: Ensemble) -> None:
        super().__init__(model, how)
        for other in others:
            require(other, Access.SCORES, "an ensemble")
            if (tuple(other.input_shape), other.num_classes) != (self.input_shape, self.num_classes):
                msg = f"{other.name} has other inputs or classes than {model.name}"
                raise InvalidInput(msg)
        self._others, self._vote = tuple(others), how.vote

    def _scores(self, x: Tensor) -> np.ndarray:
        parts = [m.scores(x).double().numpy() for m in (self._model, *self._others)]
        if self._vote == "majority":
            parts = [np.eye(self.num_classes)[part.argmax(axis=1)] for part in parts]
        return np.asarray(np.mean(parts, axis=0))
