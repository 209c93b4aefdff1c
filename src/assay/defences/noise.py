"""Noise on scores, the same for the same input."""

from __future__ import annotations

import hashlib
import typing
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput, UnknownName
from assay.model import Model
from assay.registry import nearest, register

__all__ = ["Noise"]

Kind = Literal["gaussian", "laplace"]


@register("noise", kind="defence")
@dataclass(frozen=True, kw_only=True)
class Noise(Defence):
    """Add noise to every score, then clip at 0 and divide rows by their sum.

    The noise is a function of the input and a secret seed: asking again does not average
    it away. The label is that of the noisy scores. Asking at many points very close to
    each other still averages.

    Parameters
    ----------
    scale
        Standard deviation of the noise, at least 0.
    kind
        ``"gaussian"`` or ``"laplace"``.
    seed
        The service's secret.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x, (2,), outputs="probabilities")
    >>> noisy = Noise(scale=0.01).wear(model)
    >>> x = torch.tensor([[0.5, 0.5]])
    >>> bool((noisy.scores(x) == noisy.scores(x)).all()), bool((noisy.scores(x) == x).any())
    (True, False)
    """

    name: ClassVar[str] = "noise"

    scale: float = 0.01
    kind: Kind = "gaussian"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < np.inf:
            msg = f"the scale of noise must be at least 0, got {self.scale}"
            raise InvalidInput(msg)
        if self.kind not in typing.get_args(Kind):
            raise UnknownName(nearest(self.kind, list(typing.get_args(Kind)), "kind of noise"))

    def wear(self, model: Model) -> Dressed:
        """Return ``model`` with noisy scores."""
        return _Noisy(model, self)


class _Noisy(Dressed):
    def __init__(self, model: Model, noise: Noise) -> None:
        super().__init__(model, noise, complete=True)
        self._noise = noise

    def _scores(self, x: Tensor) -> np.ndarray:
        scores = self._plain(x)
        noisy = np.clip(scores + self._noise.scale * self._drawn(x, scores.shape[1]), 0.0, None)
        total = noisy.sum(axis=1, keepdims=True)
        # All of a row may have been clipped; then the service falls back on the truth.
        return np.where(total > 0, noisy / np.where(total > 0, total, 1.0), scores)

    def _drawn(self, x: Tensor, width: int) -> np.ndarray:
        # Adding 0.0 makes one of the two zeros, which are equal inputs with different bits.
        rows = np.ascontiguousarray(x.double().reshape(len(x), -1).numpy() + 0.0)
        key = self._noise.seed.to_bytes(16, "little", signed=True)
        drawn = np.empty((len(rows), width))
        for i, row in enumerate(rows):
            digest = hashlib.blake2b(row.tobytes(), key=key, digest_size=16).digest()
            rng = np.random.default_rng(int.from_bytes(digest, "little"))
            if self._noise.kind == "gaussian":
                drawn[i] = rng.standard_normal(width)
            else:
                drawn[i] = rng.laplace(scale=np.sqrt(0.5), size=width)
        return drawn
