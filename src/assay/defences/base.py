"""The contract of defences: a model goes in, a model that answers less, or otherwise, comes out."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from assay.adapters.sklearn_model import SklearnModel
from assay.errors import InvalidInput
from assay.model import Access, Model, accepts_missing, check_inputs, require, shows_complete_scores

__all__ = ["Defence", "Dressed", "estimator_of"]


class Defence(ABC):
    """Base of what a service does to its answers; subclasses are registered frozen dataclasses.

    Attributes
    ----------
    name
        Registered name.
    needs
        Access to the model that is dressed.
    """

    name: ClassVar[str]
    needs: ClassVar[Access] = Access.SCORES

    @abstractmethod
    def wear(self, model: Model) -> Dressed:
        """Return ``model`` as the service shows it.

        Raises
        ------
        AccessDenied
            If the model offers less than ``needs``.
        InvalidInput
            If this defence does not fit the model.
        """


class Dressed(ABC):
    """A model behind a defence; subclasses write `_scores`, and `_embeddings` where there are any.

    It answers on the CPU in float64 and hides what lies behind it: no weights, and only
    the access that the defence leaves.

    Parameters
    ----------
    model
        The model behind.
    defence
        What it wears; its name and numbers enter ``name`` and ``digest``.
    access
        What is still offered; what the model offers of labels and scores unless given.
    complete
        Whether rows of scores sum to 1; as the model's unless given.
    missing
        Whether NaN may stand for a feature that is left out; as the model's unless given.
    input_shape
        Shape of one input, where it is not the model's.
    """

    def __init__(
        self,
        model: Model,
        defence: Defence,
        *,
        access: Access | None = None,
        complete: bool | None = None,
        missing: bool | None = None,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        require(model, defence.needs, f"the defence {defence.name}")
        self._model = model
        self.name = f"{model.name} behind {defence.name}"
        settings = sorted(dataclasses.asdict(cast("Any", defence)).items())
        self.digest = hashlib.sha256(repr((model.digest, defence.name, settings)).encode()).hexdigest()
        self.access: Access = (model.access & Access.SCORES) if access is None else access
        self.input_shape = tuple(model.input_shape) if input_shape is None else input_shape
        self.num_classes = model.num_classes
        self.complete_scores = shows_complete_scores(model) if complete is None else complete
        self.accepts_missing = accepts_missing(model) if missing is None else missing

    @abstractmethod
    def _scores(self, x: Tensor) -> np.ndarray:
        """Return float64 ``[n, num_classes]`` for checked inputs."""

    def _labels(self, x: Tensor) -> np.ndarray:
        """Return int64 ``[n]`` for checked inputs; the class of the largest score."""
        return np.asarray(self._scores(x).argmax(axis=1))

    def _embeddings(self, x: Tensor) -> np.ndarray:  # noqa: ARG002 - for subclasses
        """Return float64 ``[n, width]`` for checked inputs."""
        raise AssertionError  # pragma: no cover - only what offers embeddings is asked, and it overrides this

    def labels(self, x: Tensor) -> Tensor:
        """Return predicted classes, int64 ``[n]``."""
        self._check(x, Access.LABELS, "labels()")
        if not len(x):
            return torch.empty(0, dtype=torch.int64)
        return torch.from_numpy(np.ascontiguousarray(self._labels(x), dtype=np.int64))

    def scores(self, x: Tensor) -> Tensor:
        """Return class probabilities as the service shows them, float64 ``[n, num_classes]``."""
        self._check(x, Access.SCORES, "scores()")
        if not len(x):
            return torch.empty(0, self.num_classes, dtype=torch.float64)
        return torch.from_numpy(np.ascontiguousarray(self._scores(x), dtype=np.float64))

    def embeddings(self, x: Tensor) -> Tensor:
        """Return what else the service shows, float64 ``[n, width]``."""
        self._check(x, Access.EMBEDDINGS, "embeddings()")
        return torch.from_numpy(np.ascontiguousarray(self._embeddings(x), dtype=np.float64))

    @property
    def module(self) -> nn.Module:
        """Refuse: a service shows no weights.

        Raises
        ------
        AccessDenied
            Always.
        """
        require(self, Access.WEIGHTS, "the network itself")
        raise AssertionError  # pragma: no cover - no defence offers weights

    def _check(self, x: Tensor, needs: Access, what: str) -> None:
        require(self, needs, what)
        check_inputs(x, self.input_shape, self.name, missing=self.accepts_missing)

    def _plain(self, x: Tensor) -> np.ndarray:
        """Return the scores of the model behind, float64."""
        return self._model.scores(x).double().numpy()


def estimator_of(model: Model) -> Any:
    """Return the scikit-learn estimator behind a model, for a defence that is part of the service.

    Raises
    ------
    InvalidInput
        If there is none.
    """
    if not isinstance(model, SklearnModel):
        msg = f"{model.name} is no scikit-learn model, and this defence has to look into one"
        raise InvalidInput(msg)
    return model.estimator
