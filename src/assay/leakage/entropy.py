"""Entropy of the answer: free, and known to whoever gets scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.leakage.base import Estimator, Fitted, Method
from assay.leakage.scale import RATIO, doubt_to_log_q
from assay.model import Access, Model
from assay.observers import Observer
from assay.privacy.orders import FloatArray
from assay.registry import register

__all__ = ["Entropy"]


@register("entropy", kind="leakage")
@dataclass(frozen=True, kw_only=True)
class Entropy(Method):
    """Leakage as the entropy of the answered scores.

    ``H(scores) / log(classes)``, put on the scale of log q. Costs nothing, but whoever
    sees the scores knows it as well, and a confident wrong answer looks cheap.

    References
    ----------
    Dziedzic et al., "Increasing the Cost of Model Extraction with Calibrated Proof of
    Work", ICLR 2022, section 4.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data import load_data
    >>> from assay.nets import build
    >>> data = load_data("iris")
    >>> estimator = Entropy().fit(data, TorchModel(build("mlp-4", (4,), 3)))
    >>> sure, unsure = torch.eye(3)[:1], torch.full((1, 3), 1 / 3)
    >>> estimator.log_q(data.x[:2], scores=torch.cat([sure, unsure])).round(1)
    array([-160. ,   -0.7])
    """

    name: ClassVar[str] = "entropy"
    needs: ClassVar[Access] = Access.SCORES

    def fit(
        self,
        data: Dataset,
        victim: Model | None = None,
        *,
        rng: int = 0,  # noqa: ARG002 - nothing here is random
        observers: Sequence[Observer] = (),  # noqa: ARG002
        checkpoint: str | Path | None = None,  # noqa: ARG002
    ) -> Estimator:
        """Return the estimator; nothing is learned. See `Method.fit`."""
        self.check(data, victim)
        # Nominal noise of 100 voters: prices are functions of log q and of this sigma together.
        return self.restore(Fitted(data.input_shape, data.num_classes, 100 * RATIO, victim=victim))

    def restore(self, fitted: Fitted) -> Estimator:
        """Return the estimator."""
        return _Entropy(self, fitted)


class _Entropy(Estimator):
    reads_scores = True

    def _measure(self, x: Tensor, scores: Tensor | None) -> FloatArray:
        p = (self.victim.scores(x) if scores is None else scores).double().clamp(0.0, 1.0)
        doubt = -torch.xlogy(p, p).sum(1) / math.log(self.num_classes)
        return doubt_to_log_q(doubt.numpy(), self.num_classes)
