"""Knockoff Nets, random strategy: random inputs of any kind, the victim's probabilities, one training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from assay.extraction.random_draw import RandomDraw
from assay.model import Access
from assay.registry import register

__all__ = ["Knockoff"]


@register("knockoff", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class Knockoff(RandomDraw):
    """Train a copy on the probabilities that the victim gives to random inputs of another kind.

    The strategy that Orekondy et al. call random. The loss is the Kullback-Leibler
    divergence from the victim's answer, whose gradient is that of soft cross-entropy.
    With inputs of the task it is logit-query. Further hyperparameters are those of
    `assay.extraction.random_draw.RandomDraw`.

    References
    ----------
    Orekondy, Schiele and Fritz, "Knockoff Nets: Stealing Functionality of Black-Box
    Models", CVPR 2019, section 4; Dziedzic, Kaleem, Lu and Papernot, ICLR 2022,
    section 5.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.data import Dataset
    >>> from assay.nets import build
    >>> victim = TorchModel(build("mlp-4", (3,), 2))
    >>> pool = Dataset(torch.rand(40, 3), torch.zeros(40, dtype=torch.int64), ("a", "b"))
    >>> Knockoff(architecture="mlp-8", epochs=2, queries=16).run(victim, pool).record.cost.queries
    16
    """

    name: ClassVar[str] = "knockoff"
    needs: ClassVar[Access] = Access.SCORES
