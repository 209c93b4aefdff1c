"""Lead of the first class over the second in the answer: free, and known to whoever gets scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from assay.data.dataset import Dataset
from assay.leakage.base import Estimator, Fitted, Method
from assay.leakage.scale import RATIO, doubt_to_log_q
from assay.model import Access, Model
from assay.observers import Observer
from assay.privacy.orders import FloatArray
from assay.registry import register

__all__ = ["Gap"]


@register("gap", kind="leakage")
@dataclass(frozen=True, kw_only=True)
class Gap(Method):
    """Leakage as the closeness of the two largest scores.

    ``1 - (p1 - p2)`` over all classes (the published code normalises over the two
    largest only), put on the scale of log q. Costs nothing, but whoever sees the scores
    knows it as well.

    References
    ----------
    Dziedzic et al., "Increasing the Cost of Model Extraction with Calibrated Proof of
    Work", ICLR 2022, section 4.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.data import load_data
    >>> from assay.nets import build
    >>> data = load_data("iris")
    >>> estimator = Gap().fit(data, TorchModel(build("mlp-4", (4,), 3)))
    >>> estimator.log_q(data.x[:1], scores=torch.tensor([[0.5, 0.5, 0.0]])).round(2)
    array([-0.69])
    """

    name: ClassVar[str] = "gap"
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
        return self.restore(Fitted(data.input_shape, data.num_classes, 100 * RATIO, victim=victim))

    def restore(self, fitted: Fitted) -> Estimator:
        """Return the estimator."""
        return _Gap(self, fitted)


class _Gap(Estimator):
    reads_scores = True

    def _measure(self, x: Tensor, scores: Tensor | None) -> FloatArray:
        p = (self.victim.scores(x) if scores is None else scores).double()
        top = p.topk(2, dim=1).values
        return doubt_to_log_q((1 - (top[:, 0] - top[:, 1])).numpy(), self.num_classes)
