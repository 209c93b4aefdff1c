"""Scores bent by a reverse sigmoid: several true scores look alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit, logit

from assay.defences.answering import Answering, Asked, FloatArray, keep_top
from assay.errors import InvalidInput
from assay.registry import register

__all__ = ["ReverseSigmoid", "bend"]

# Scores nearer to 0 or 1 than this are taken as this far away: the logit has to be finite.
_EDGE = 1e-9


@register("reverse-sigmoid", kind="defence")
@dataclass(frozen=True, kw_only=True)
class ReverseSigmoid(Answering):
    """Subtract a reverse sigmoid from every score, so that a copier's targets are ambiguous.

    A score ``y`` becomes ``y - beta (sigmoid(gamma logit(y)) - 1/2)``; rows are clipped at 0
    and divided by their sum. The curve falls, rises and falls again: one shown score has
    several true ones.

    Parameters
    ----------
    beta
        Size of the change, 0 to 2.
    gamma
        Steepness, above 0.
    keep_label
        Whether the class of the largest score stays; as published it may change where no
        score is large.

    References
    ----------
    Lee, Edwards, Molloy and Su, "Defending Against Neural Network Model Stealing Attacks
    Using Deceptive Perturbations", IEEE S&P Workshops 2019.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x, (2,), outputs="probabilities")
    >>> ReverseSigmoid().wear(model).scores(torch.tensor([[0.9, 0.1]])).numpy().round(3).tolist()
    [[0.845, 0.155]]
    """

    name: ClassVar[str] = "reverse-sigmoid"

    beta: float = 1.0
    gamma: float = 0.1
    keep_label: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.beta <= 2 and 0 < self.gamma < np.inf):  # noqa: PLR2004 - above 2 all scores are alike
            msg = f"beta must lie in 0 to 2 and gamma be above 0, got {self.beta} and {self.gamma}"
            raise InvalidInput(msg)

    def answer(self, scores: FloatArray, asked: Asked) -> FloatArray:  # noqa: ARG002 - the same for everybody
        """Return bent scores, float64 ``[n, k]``."""
        shown = bend(scores, beta=self.beta, gamma=self.gamma)
        return keep_top(shown, scores) if self.keep_label else shown


def bend(scores: FloatArray, *, beta: float, gamma: float) -> FloatArray:
    """Return scores under the reverse sigmoid, float64 ``[n, k]``.

    Examples
    --------
    >>> bend(np.array([[0.5, 0.5]]), beta=1.0, gamma=0.1).tolist()
    [[0.5, 0.5]]
    """
    away = np.clip(scores, _EDGE, 1 - _EDGE)
    bent = np.clip(scores - beta * (expit(gamma * logit(away)) - 0.5), 0.0, None)
    total = bent.sum(axis=1, keepdims=True)
    return np.where(total > 0, bent / np.where(total > 0, total, 1.0), scores)
