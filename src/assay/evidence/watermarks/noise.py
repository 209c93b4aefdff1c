"""Noise watermark: fixed Gaussian noise over the owner's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.evidence.watermarks.marked_training import MarkedInputs, MarkedTraining, check_rows
from assay.evidence.watermarks.triggers import limits
from assay.registry import register

__all__ = ["Noise"]


@register("noise", kind="evidence")
@dataclass(frozen=True)
class Noise(MarkedTraining):
    """Backdoor watermark: one fixed pattern of Gaussian noise a mark, added to the owner's inputs.

    Each mark is one draw of noise over the whole input, the same on every row that carries
    it; the sum is clipped to the value range. Targets and test are those of `TriggerSet`.
    Works for images and tables.

    Parameters
    ----------
    sigma
        Standard deviation of the noise as a share of the value range (of each column's
        range in a table), above 0.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Zhang, Gu, Jang, Wu, Stoecklin, Huang and Molloy, "Protecting Intellectual Property of
    Deep Neural Networks with Watermarking", AsiaCCS 2018, section 4.1 (WM noise). The
    size of the noise is that of Lukas et al., "SoK: How Robust is Image Classification
    Deep Neural Network Watermarking?", S&P 2022.

    Examples
    --------
    >>> from assay.data.embedded import breast_cancer
    >>> data, rng = breast_cancer(), np.random.default_rng
    >>> made = Noise(triggers=32).inputs(data, [rng(0), rng(1), rng(2)], None)
    >>> made.asked.shape, made.marks
    (torch.Size([32, 30]), 16)
    """

    scheme: ClassVar[str] = "noise"

    sigma: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("sigma", fine=self.sigma > 0)

    def inputs(
        self,
        data: Dataset,
        rngs: Sequence[np.random.Generator],
        unrelated: Dataset | None,  # noqa: ARG002 - refused before
    ) -> MarkedInputs:
        """Add the noise to the owner's rows."""
        check_rows(data)
        low, high = limits(data)
        drawn = rngs[0].normal(0.0, self.sigma, (self.wanted(data), *data.input_shape)).astype(np.float32)
        marks = _Added(torch.from_numpy(drawn) * (high - low), low, high)
        return self.on_rows(data, marks, rngs[1], rngs[2])


@dataclass(frozen=True, eq=False)
class _Added:
    """Patterns that are added to a row, and the limits of the sum."""

    values: Tensor
    low: Tensor
    high: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def stamp(self, x: Tensor, index: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x + self.values[index], self.low), self.high)
